#!/usr/bin/env bash
# End what start.sh FOLDER started, by the ids that it wrote down.
set -u
folder=$(cd "$1" && pwd) || exit 1
for name in slurmd slurmctld munged; do
  if [ -s "$folder/$name.pid" ]; then kill "$(cat "$folder/$name.pid")" 2> /dev/null; fi
done
for file in slurm.conf gres.conf; do
  if [ "$(readlink "/etc/slurm/$file")" = "$folder/$file" ]; then rm "/etc/slurm/$file"; fi
done
