#!/usr/bin/env bash
# A real SLURM of one node, for tests: start.sh FOLDER. Everything it writes is in the folder; stop.sh FOLDER ends it.
# Needs root and Debian's slurm-wlm and munge; no systemd, no accounting. /etc/slurm is linked to the folder meanwhile:
# Snakemake starts job steps without SLURM's environment, so SLURM_CONF alone would not do.
set -euo pipefail
mkdir -p "$1"
chmod 755 "$1"
folder=$(cd "$1" && pwd)
host=$(hostname -s)
for file in slurm.conf gres.conf; do
  if [ -e "/etc/slurm/$file" ] && [ "$(readlink "/etc/slurm/$file")" != "$folder/$file" ]; then
    echo "/etc/slurm/$file is there already: this machine has a SLURM of its own" >&2
    exit 1
  fi
done
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
mkdir -p "$folder/state" "$folder/spool"

cat > "$folder/slurm.conf" <<END
ClusterName=partialres
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=${SLURM_TEST_PORT:-26817}
SlurmdPort=$((${SLURM_TEST_PORT:-26817} + 1))
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
# Without systemd there may be no cgroup tree: processes are followed through /proc.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# A job that takes more memory than it asked for is ended, as control groups do elsewhere.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
ReturnToService=2
# Finished jobs stay visible: tests, and status checks without accounting, ask for them.
MinJobAge=3600
MpiDefault=none
KillWait=2
# A GPU by name only, so that asking for one can be tried.
GresTypes=gpu
AccountingStorageType=accounting_storage/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=$memory Gres=gpu:1
PartitionName=main Nodes=$host Default=YES MaxTime=1-0 State=UP
PartitionName=gpu Nodes=$host MaxTime=1-0 State=UP
END
echo "NodeName=$host Name=gpu Count=1 File=/dev/null" > "$folder/gres.conf"
mkdir -p /etc/slurm
ln -sfn "$folder/slurm.conf" "$folder/gres.conf" /etc/slurm/

# Daemons keep nothing of the caller's: an open pipe would leave a reader of this script's output waiting for ever.
daemon() { "$@" < /dev/null >> "$folder/start.log" 2>&1; }
[ -s "$folder/munge.key" ] || (umask 077 && head -c 128 /dev/urandom > "$folder/munge.key")
daemon munged --force --socket "$folder/munge.socket" --key-file "$folder/munge.key" --pid-file "$folder/munged.pid" \
  --log-file "$folder/munged.log" --seed-file "$folder/munge.seed"
daemon slurmctld
daemon slurmd
for _ in $(seq 120); do
  if sinfo --noheader --format %T 2> /dev/null | grep -qE 'idle|mixed|alloc'; then exit 0; fi
  sleep 0.25
done
cat "$folder"/*.log >&2
echo "SLURM did not come up; its logs are in $folder" >&2
exit 1
