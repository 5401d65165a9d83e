#!/bin/bash
# A real SLURM on this machine, as root and without a service manager: munge, a controller, several nodes.
#   cluster.sh start|stop DIR [NODES=2, at most 9] [PORT=17000] [BRIDGE]   then: export SLURM_CONF=DIR/slurm.conf
# Each slurmd has a host name and an /etc/hosts of its own (UTS and mount namespace), four processors and eight
# pretended GPUs. With BRIDGE, the name of a network bridge to be made, each also has a network address and
# processes of its own (network and PID namespace): Ray tells its nodes apart by these. `stop` ends the processes
# that `start` began, and their jobs, and no others.
set -euo pipefail
command=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
nodes=${3:-2}
port=${4:-17000}
bridge=${5:-}
net=${bridge:+10.79.0} # the nodes are NET.1, NET.2, ...
net=${net:-127.0.1}
here=$(cd "$(dirname "$0")" && pwd)
export SLURM_CONF=$folder/slurm.conf

spawn() { # NAME COMMAND...   daemons stay in the foreground, so that $! is their own number
    local name=$1
    shift
    setsid "$@" >"$folder/$name.out" 2>&1 </dev/null &
    echo $! >"$folder/pids/$name"
}

is_ours() { # PID
    { tr '\0' '\n' <"/proc/$1/environ" | grep -qx "SLURM_CONF=$SLURM_CONF"; } 2>/dev/null
}

stop() {
    local file pid
    if timeout 5 scontrol ping 2>/dev/null | grep -q UP; then # a job outlives its slurmd: end the jobs first
        squeue -h -o %A | xargs -r scancel -f
        for _ in $(seq 100); do
            if [ -z "$(squeue -h)" ]; then break; fi
            sleep 0.1
        done
    fi
    for file in "$folder"/pids/node* "$folder"/pids/slurmctld "$folder"/pids/munged; do
        if [ -e "$file" ] && is_ours "$(cat "$file")"; then kill "$(cat "$file")" || true; fi
    done
    for file in "$folder"/pids/*; do
        if [ ! -e "$file" ]; then continue; fi
        pid=$(cat "$file")
        for _ in $(seq 100); do
            if ! is_ours "$pid"; then break; fi
            sleep 0.1
        done
        if is_ours "$pid"; then kill -9 "$pid" || true; fi
        rm -f "$file"
    done
    if [ -n "$bridge" ]; then
        for k in $(seq "$nodes"); do ip netns del "$bridge-$k"; done
        ip link del "$bridge"
    fi
}

cables() { # a bridge that is the login node, with one cable to each node's namespace
    ip link add "$bridge" type bridge
    ip addr add "$net.254/24" dev "$bridge"
    ip link set "$bridge" up
    for k in $(seq "$nodes"); do
        ip netns add "$bridge-$k"
        ip link add "$bridge-$k" type veth peer name eth0 netns "$bridge-$k"
        ip link set "$bridge-$k" master "$bridge" up
        ip -n "$bridge-$k" addr add "$net.$k/24" dev eth0
        ip -n "$bridge-$k" link set eth0 up
        ip -n "$bridge-$k" link set lo up
    done
}

node() { # NUMBER   start (again) the daemon of one node
    local apart=()
    if [ -n "$bridge" ]; then
        apart=(nsenter "--net=/run/netns/$bridge-$1" unshare --pid --fork --kill-child --mount-proc)
    fi
    spawn "node$1" "${apart[@]}" unshare --uts --mount --propagation private \
        sh -c "hostname node$1; mount --bind '$folder/hosts' /etc/hosts; exec slurmd -D -N node$1"
}

start() {
    mkdir -p "$folder/pids" "$folder/state"
    chmod 755 "$folder"
    local login=127.0.0.1
    if [ -n "$bridge" ]; then
        login=$net.254
        cables
    fi
    {
        echo "127.0.0.1 localhost"
        echo "$login $(hostname -s)"
        for k in $(seq "$nodes"); do echo "$net.$k node$k"; done
    } >"$folder/hosts"
    for k in $(seq "$nodes"); do mkdir -p "$folder/spool/node$k"; done
    if [ ! -e "$folder/munge.key" ]; then (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key"); fi
    sed -e "s#@DIR@#$folder#g;s#@HOST@#$(hostname -s)#g;s#@N@#$nodes#g" \
        -e "s#@LOGIN@#$login#g;s#@NET@#$net#g" \
        -e "s#@P0@#$port#g;s#@P1@#$((port + 1))#g;s#@PN@#$((port + nodes))#g" "$here/slurm.conf.in" >"$SLURM_CONF"
    for k in $(seq 0 7); do
        if [ ! -e "$folder/gpu$k" ]; then mknod "$folder/gpu$k" c 1 3; fi
    done
    echo "NodeName=node[1-$nodes] Name=gpu File=$folder/gpu[0-7]" >"$folder/gres.conf"
    spawn munged munged --foreground --socket="$folder/munge.sock" --key-file="$folder/munge.key" \
        --log-file="$folder/munged.log" --pid-file="$folder/munged.pid" --seed-file="$folder/munged.seed"
    for _ in $(seq 50); do
        if [ -S "$folder/munge.sock" ]; then break; fi
        sleep 0.1
    done
    spawn slurmctld slurmctld -D
    for k in $(seq "$nodes"); do node "$k"; done
    for _ in $(seq 300); do
        if [ "$(sinfo -h -N -o %T 2>/dev/null | grep -cx idle)" = "$nodes" ]; then return 0; fi
        sleep 0.1
    done
    echo "the cluster did not get ready:" >&2
    sinfo -N -l >&2 || true
    tail -n 5 "$folder"/*.out >&2
    stop
    return 1
}

case $command in
    start) start ;;
    stop) stop ;;
    node) node "$nodes" ;;
    *) echo "usage: $0 start|stop|node DIR [NODES] [PORT] [BRIDGE]" >&2 && exit 2 ;;
esac
