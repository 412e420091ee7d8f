"""What the kernel is told of a TLS session, against RFC 8448 and against openssl(1)."""

from __future__ import annotations

import subprocess

import pytest

from hast.format.kernel_tls import ExactRecords, NotForTheKernel, crypto_info, why_over

CLIENT = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
SERVER = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"
CLIENT_KEY, CLIENT_IV = "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"
SERVER_KEY, SERVER_IV = "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"
"""RFC 8448, section 3."""
AES_128 = "TLS_AES_128_GCM_SHA256"


def key_log(client: str, server: str) -> bytes:
    random = "11" * 32
    lines = [
        "# TLS secrets log file",
        f"SERVER_HANDSHAKE_TRAFFIC_SECRET {random} {'22' * 32}",
        f"EXPORTER_SECRET {random} {'33' * 32}",
        f"SERVER_TRAFFIC_SECRET_0 {random} {server}",
        f"CLIENT_HANDSHAKE_TRAFFIC_SECRET {random} {'44' * 32}",
        f"CLIENT_TRAFFIC_SECRET_0 {random} {client}",
    ]
    return "\n".join([*lines, ""]).encode()


def aes_128(key: str, iv: str, sequence: int) -> bytes:
    """struct tls12_crypto_info_aes_gcm_128: version, cipher, iv, key, salt, sequence."""
    head = (0x0304).to_bytes(2, "little") + (51).to_bytes(2, "little")
    return head + bytes.fromhex(iv[8:] + key + iv[:8]) + sequence.to_bytes(8, "big")


def test_keys_are_those_of_the_trace_in_rfc_8448() -> None:
    log = key_log(CLIENT, SERVER)
    told = crypto_info(AES_128, log, server=False, sent=3, received=258)
    assert told.sending == aes_128(CLIENT_KEY, CLIENT_IV, 3)
    assert told.receiving == aes_128(SERVER_KEY, SERVER_IV, 258)
    told = crypto_info(AES_128, log, server=True)
    assert told.sending == aes_128(SERVER_KEY, SERVER_IV, 0)
    assert told.receiving == aes_128(CLIENT_KEY, CLIENT_IV, 0)


def derived(digest: str, secret: str, label: str, size: int) -> bytes:
    words = ["openssl", "kdf", "-binary", "-keylen", str(size), "-kdfopt", f"digest:{digest}", "-kdfopt"]
    words += ["mode:EXPAND_ONLY", "-kdfopt", f"hexkey:{secret}", "-kdfopt", "prefix:tls13 ", "-kdfopt"]
    return subprocess.run([*words, f"label:{label}", "TLS13-KDF"], check=True, capture_output=True, timeout=30).stdout


@pytest.mark.parametrize(
    ("cipher", "number", "digest", "secret", "salt"),
    [
        ("TLS_AES_256_GCM_SHA384", 52, "SHA384", "5a" * 48, 4),
        ("TLS_CHACHA20_POLY1305_SHA256", 54, "SHA256", "a5" * 32, 0),
    ],
)
def test_keys_of_the_other_ciphers_are_those_that_openssl_derives(
    cipher: str, number: int, digest: str, secret: str, salt: int
) -> None:
    key, iv = derived(digest, secret, "key", 32), derived(digest, secret, "iv", 12)
    assert len(key) == 32
    assert len(iv) == 12
    head = (0x0304).to_bytes(2, "little") + number.to_bytes(2, "little")
    told = crypto_info(cipher, key_log(secret, secret[::-1]), server=False, sent=1)
    assert told.sending == head + iv[salt:] + key + iv[:salt] + bytes(7) + b"\1"
    assert len(told.receiving) == len(told.sending)
    assert told.receiving != told.sending


@pytest.mark.parametrize(
    "log",
    [
        b"",
        key_log(CLIENT, ""),
        key_log(CLIENT, SERVER[:-2]),
        key_log(CLIENT, "zz" * 32),
        key_log(CLIENT, SERVER) + key_log(SERVER, CLIENT),
        key_log(CLIENT, SERVER)[:-3],
    ],
)
def test_a_session_whose_secrets_are_not_plainly_there_stays_in_user_space(log: bytes) -> None:
    with pytest.raises(NotForTheKernel, match="does not tell the secrets"):
        crypto_info(AES_128, log, server=False)


def test_a_cipher_that_the_kernel_does_not_have_stays_in_user_space() -> None:
    with pytest.raises(NotForTheKernel, match="TLS_AES_128_CCM_SHA256"):
        crypto_info("TLS_AES_128_CCM_SHA256", key_log(CLIENT, SERVER), server=False)


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        (21, b"\x01\x00", ""),
        (21, b"\x02\x00", ""),
        (21, b"\x02\x14", "the other node found that what it received was changed on its way"),
        (21, b"\x02\x28", "the other node gave the session up (TLS alert 40)"),
        (21, b"\x01", "it sent a TLS record of type 21, which does not belong here"),
        (22, b"\x18\x00\x00\x01\x00", "it wants other TLS keys in the middle of a session"),
        (22, b"\x04\x00\x00\x01\x00", "it sent a TLS ticket, which nobody asked for"),
        (22, b"", "it sent a TLS record of type 22, which does not belong here"),
        (20, b"\x01", "it sent a TLS record of type 20, which does not belong here"),
        (0, b"", "it sent a TLS record of type 0, which does not belong here"),
    ],
)
def test_only_close_notify_is_an_end_in_order(kind: int, content: bytes, reason: str) -> None:
    assert why_over(kind, content) == reason


def test_records_are_read_to_their_ends_and_no_byte_further() -> None:
    records = ExactRecords()
    stream = b"\x16\x03\x01\x00\x03abc" + b"\x17\x03\x03\x01\x00" + bytes(256) + b"\x15\x03\x03\x00\x00" + b"\x17"
    for pieces in (1, 7, 4096):
        position, ends = 0, []
        while position < len(stream) - 1:
            piece = stream[position : position + min(pieces, records.wanted_bytes)]
            records.took(piece)
            position += len(piece)
            if records.between:
                ends.append(position)
        assert ends == [8, 8 + 261, 8 + 261 + 5]


def test_a_length_that_no_record_has_is_no_tls() -> None:
    with pytest.raises(NotForTheKernel, match="does not speak TLS"):
        ExactRecords().took(b"HTTP/")
