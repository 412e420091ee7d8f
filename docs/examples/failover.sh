#!/bin/sh
# The fail-over script of the article, for Linux: `seq` for `jot`, `-e` for `-c`. See failover(8) for the program.
#
# Original script by Freddie Cash <fjwcash@gmail.com>
# Modified by Michael W. Lucas <mwlucas@BlackHelicopters.org>
# and Viktor Petersson <vpetersson@wireload.net>
# Modified by George Kontostanos <gkontos.mail@gmail.com>

# HAST resources, as in /etc/hast.conf
resources="disk1 disk2 disk3"

# seconds to wait before roles are changed
delay=3

log="local0.debug"
name="failover"
pool="zhast"

case "$1" in
master)
	logger -p $log -t $name "Switching to primary provider for ${resources}."
	sleep ${delay}

	# a secondary worker that still runs ends first
	for disk in ${resources}; do
		while pgrep -lf "hastd: ${disk} \(secondary\)" > /dev/null 2>&1; do
			sleep 1
		done

		hastctl role primary ${disk}
		if [ $? -ne 0 ]; then
			logger -p $log -t $name "Unable to change role to primary for resource ${disk}."
			exit 1
		fi
	done

	# devices appear a moment after the role
	for disk in ${resources}; do
		for I in $( seq 60 ); do
			[ -e "/dev/hast/${disk}" ] && break
			sleep 0.5
		done

		if [ ! -e "/dev/hast/${disk}" ]; then
			logger -p $log -t $name "GEOM provider /dev/hast/${disk} did not appear."
			exit 1
		fi
	done
	logger -p $log -t $name "Role for HAST resources ${resources} switched to primary."

	logger -p $log -t $name "Importing Pool"
	# by force: the pool remembers the host id of the other node
	out=$( zpool import -f -d /dev/hast "${pool}" 2>&1 )
	if [ $? -ne 0 ]; then
		logger -p local0.error -t hast "ZFS pool import for resource ${pool} failed: ${out}."
		exit 1
	fi
	logger -p local0.debug -t hast "ZFS pool for resource ${pool} imported."
	;;

slave)
	logger -p $log -t $name "Switching to secondary provider for ${resources}."

	zpool list | grep -E -q "^${pool} "
	if [ $? -eq 0 ]; then
		out=$( zpool export -f "${pool}" 2>&1 )
		if [ $? -ne 0 ]; then
			logger -p local0.error -t hast "Unable to export pool for resource ${pool}: ${out}."
			exit 1
		fi
		logger -p local0.debug -t hast "ZFS pool for resource ${pool} exported."
	fi

	for disk in ${resources}; do
		sleep $delay
		hastctl role secondary ${disk} 2>&1
		if [ $? -ne 0 ]; then
			logger -p $log -t $name "Unable to switch role to secondary for resource ${disk}."
			exit 1
		fi
		logger -p $log -t $name "Role switched to secondary for resource ${disk}."
	done
	;;
*)
	echo "usage: $0 master|slave" >&2
	exit 64
	;;
esac
