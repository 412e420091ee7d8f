"""hastd: reactor, provider, link, exports, devices, worker and supervisor. Decides nothing the engine decides."""
