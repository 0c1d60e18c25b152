# Builds and starts the servers; sourced by benches/run and benches/stress, from the root of the repository.
# Expects $server_core (the core they are pinned to) and $outrigger (a built binary, or empty).

# Either end needs a descriptor per subscriber and a few for itself.
ulimit -n "$(ulimit -Hn)"
built=target/benches/release
api_key=bench-key-of-no-secret-whatsoever
# The shortest message the floor may write, and how much a connection may have queued.
frame_bytes=0 outbox=1MiB
# More of the configuration, more lines of the channel's rule, and what the benched channels keep.
more="" rule="" history=""

work=$(mktemp -d)
server_pid=""
# Without a farewell: a drain would only cost time here.
stop_server() {
    [[ -z $server_pid ]] || { kill -KILL "$server_pid" && wait "$server_pid"; } 2>/dev/null || true
    server_pid=""
}
trap 'stop_server; rm -rf "$work"' EXIT

build() { # SERVERS
    cargo build --quiet --release --manifest-path benches/fanout/Cargo.toml --target-dir target/benches
    if [[ -z $outrigger && $1 == *outrigger* ]]; then
        cargo build --quiet --release
        outrigger=target/release/outrigger
    fi
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

wait_for_port() {
    for _ in $(seq 200); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "the server did not start:" >&2
    tail -20 "$work/server.log" >&2
    exit 1
}

# Anonymous subscribers on a public channel without history, and every limit lifted that guards against such a crowd.
# Heartbeats are as rare as the configuration allows: they would be noise in the figures.
write_config() { # PORT API_PORT TLS
    cat >"$work/outrigger.yaml" <<END
listen:
  - address: 127.0.0.1:$1
$([[ $3 != yes ]] || echo "    tls: self_signed")
upstream: { url: "http://127.0.0.1:9" }
realtime:
  allowed_origins: "*"
  heartbeat: { interval: 10m, timeout: 20m }
  outbox: $outbox
auth: { anonymous: true }
channels:
  - match: bench
    subscribe: public
    publish: none
    $history
$rule
  - match: bench.*
    subscribe: public
    publish: none
    $history
$more
api:
  listen: 127.0.0.1:$2
  keys: [ { name: bench, key: $api_key, scope: [push, read] } ]
limits:
  connections: 100000
  connections_per_ip: 100000
  handshakes_per_second: 100000
  messages_per_second: { rate: 100000, burst: 100000 }
telemetry: { log: warn }
END
}

start_server() { # outrigger|floor PORT API_PORT TLS
    if [[ $1 == outrigger ]]; then
        write_config "$2" "$3" "$4"
        # One worker thread, to compare with a floor that has one.
        TOKIO_WORKER_THREADS=1 taskset -c "$server_core" "$outrigger" run --config "$work/outrigger.yaml" \
            >"$work/server.log" 2>&1 &
    else
        local flags=(--frame-bytes "$frame_bytes")
        [[ $4 != yes ]] || flags+=(--tls)
        taskset -c "$server_core" "$built/floor" --listen "127.0.0.1:$2" --api "127.0.0.1:$3" "${flags[@]}" \
            >"$work/server.log" 2>&1 &
    fi
    server_pid=$!
    wait_for_port "$2"
    wait_for_port "$3"
}
