#!/usr/bin/env bash
@options@
#
# Starts Ray on this job's nodes, runs the search, and stops Ray. Paths are relative to the shared folder.
#   sbatch THIS                      the settings and the study below; a study that exists already is resumed
#   sbatch THIS photos/ --trials 40  other arguments of `injerto search`
#   INJERTO_STUDY=NAME sbatch THIS   another study
# Before the time limit, or when the nodes are taken away, the search pauses after the current epochs, and the job is queued again.
# shellcheck disable=SC2329  # some functions are called by traps, some on other nodes
set -euo pipefail

shared=@shared@
settings=@settings@
environment=@environment@
study=@study@
storage=@storage@
cpus=@cpus@
gpus=@gpus@
ports=@ports@
join=@join@
requeue=@requeue@

study=${INJERTO_STUDY:-$study}
export INJERTO_STORAGE=${INJERTO_STORAGE:-$storage}
if [[ -n $environment ]]; then export PATH="$environment/bin:$PATH"; fi
cd -- "$shared"
((requeue)) || requeue=
if (($# == 0)); then set -- "$settings"; fi
for argument in "$@"; do
  if [[ $argument == --name || $argument == --name=* ]]; then
    echo "name the study in INJERTO_STUDY, not with --name: the job must find it when it is queued again" >&2
    exit 2
  fi
done

# The job has its own token, in a folder that only its user can read, and never on a command line.
private=$(umask 077 && mktemp -d ".ray-$SLURM_JOB_ID-XXXXXX")
private=$PWD/$private
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$private/token")
unset RAY_AUTH_TOKEN RAY_ADDRESS
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$private/token" RAY_USAGE_STATS_ENABLED=0 RAY_USAGE_STATS_REPORT_URL=disabled:

# The job also has its own temporary folder and ports: with Ray's defaults, or `ray stop`, it would disturb other jobs on the node.
scratch=/tmp/ray-$SLURM_JOB_ID
port=$((ports + SLURM_JOB_ID % 10000))
steps=()
search=
paused=

finish() {
  trap - EXIT
  local second
  kill -TERM "${steps[@]}" 2>/dev/null || true
  for ((second = 0; second < 40; second++)); do
    kill -0 "${steps[@]}" 2>/dev/null || break
    sleep 1
  done
  kill -KILL "${steps[@]}" 2>/dev/null || true
  rm -rf -- "$private"
}
trap finish EXIT

pause() {
  paused=1
  if [[ -n $search ]]; then kill -TERM "$search" 2>/dev/null || true; fi
}
trap pause TERM

own_address() {  # the address by which other nodes reach this one; some hosts map their own name to a loopback address
  { hostname --ip-address || true; hostname -I || true; } 2>/dev/null |
    awk '{for (i = 1; i <= NF; i++) if (!found && $i ~ /^[0-9]+(\.[0-9]+)+$/ && $i !~ /^127\.0\.[01]\.1$/) found = $i} END {print found}'
}

run_ray() {  # on one node, until SIGTERM
  set -euo pipefail
  ray start --block --node-ip-address="$(own_address)" --num-cpus="$cpus" --num-gpus="$gpus" \
    --temp-dir="$scratch" --dashboard-agent-listen-port=0 --log-color=false "$@" &
  local ray=$!
  trap 'kill -TERM "$ray" 2>/dev/null || true' TERM
  wait "$ray" || wait "$ray" || true  # a signal interrupts the first wait
  rm -rf -- "$scratch"
}

on_node() {  # arguments of srun, --, the function to call there; always in a subshell, which becomes srun and gets its signals
  local options=()
  while [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  exec srun --export=ALL --cpus-per-task="$cpus" --ntasks-per-node=1 "${options[@]}" \
    bash -c "$(declare -p cpus gpus scratch); $(declare -f own_address run_ray); \"\$@\"" ray "${@:2}"
}

await_nodes() {  # until this number of nodes has joined; ends when Ray ends
  python -P -m cluster.wait_for_nodes "$address:$port" "$1" "$join" &
  local calling=$! code=0
  wait -n "$calling" "${steps[@]}" || code=$?
  if kill -TERM "$calling" 2>/dev/null; then
    echo "the search cannot start: Ray has ended, or this job is being stopped" >&2
    exit 1
  fi
  return "$code"
}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(on_node --nodes=1 --ntasks=1 --nodelist="$head" -- own_address)
[[ -n $address ]] || { echo "the node $head has no IPv4 address; ask its administrator" >&2; exit 1; }
exports=$(python -P -m cluster.proxies "$address" "${nodes[@]}")  # no request between the nodes goes through a proxy
eval "$exports"
echo "Ray's head is $head, $address:$port"

on_node --nodes=1 --ntasks=1 --nodelist="$head" -- \
  run_ray --head --port="$port" --include-dashboard=false --ray-client-server-port=$((port + 10000)) &
steps+=("$!")
others=$((${#nodes[@]} - 1))
await_nodes 1
if ((others > 0)); then
  on_node --nodes="$others" --ntasks="$others" --exclude="$head" -- run_ray --address="$address:$port" &
  steps+=("$!")
  await_nodes "${#nodes[@]}"
fi

if injerto status "$study" >/dev/null 2>&1; then
  echo "the study $study exists and is resumed"
  command=(injerto resume "$study" --set "resources.address=$address:$port")
else
  command=(injerto search "$@" --name "$study" --address "$address:$port")
fi
[[ -z $paused ]] || exit 130
"${command[@]}" &
search=$!
code=0
wait "$search" || code=$?
while kill -0 "$search" 2>/dev/null; do  # a signal interrupts `wait`, not the search
  code=0
  wait "$search" || code=$?
done
finish

if [[ -n $paused && -n $requeue && $code == 130 ]]; then
  echo "paused; the job is queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
