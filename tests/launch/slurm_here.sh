#!/bin/bash
# A SLURM of this host alone, for test_slurm.py, until this script ends:
#
#   apt-get install slurm-wlm munge          # as root
#   bash tests/launch/slurm_here.sh pytest -m slow tests/launch/test_slurm.py
#
# It runs the command that it is given, and has the exit code of that.

set -eu
HOST=$(hostname)
FOLDER=$(mktemp -d /tmp/slurm-XXXXXX)
export SLURM_CONF=$FOLDER/slurm.conf
trap 'kill $(jobs -p) 2> /dev/null; wait; rm -rf "$FOLDER"' EXIT
mkdir "$FOLDER/state" "$FOLDER/spool"

# More cores than the host has, since a run counts its threads: they share. A job that ended is
# remembered for the test's time.
cat > "$SLURM_CONF" <<END
ClusterName=here
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=7200
SlurmdTimeout=600
MessageTimeout=60
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.pid
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=16 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END

head -c 128 /dev/urandom > "$FOLDER/munge.key"
chmod 400 "$FOLDER/munge.key"
munged --foreground --force --key-file="$FOLDER/munge.key" --socket="$FOLDER/munge.socket" \
  --pid-file="$FOLDER/munge.pid" --seed-file="$FOLDER/munge.seed" 2> "$FOLDER/munged.log" &
until [ -S "$FOLDER/munge.socket" ]; do kill -0 $!; sleep 0.2; done
slurmctld -D 2> "$FOLDER/slurmctld.log" &
slurmd -D 2> "$FOLDER/slurmd.log" &
for _ in $(seq 120); do
  sinfo --noheader --format=%t 2> /dev/null | grep -q idle && READY=yes && break
  sleep 1
done
[ "${READY:-no}" = yes ] || { tail -n 20 "$FOLDER"/*.log >&2; exit 1; }

"$@"
