#!/usr/bin/env bash
# Attacks the sandbox inside containers of a real engine; exits with 0 when every attack is stopped.
#     infra/docker/check_sandbox.sh [default] [compose]
# default: no option that widens or narrows what Docker gives. compose: the options under which
# docker-compose.yml runs toolenv. Neither needs a network or an image from a registry.
# DOCKER_HOST names the engine. PYTHON is an interpreter in which Toolwright is installed.
#
# An engine for this check alone, on a machine without one (Debian: apt-get install docker.io):
#     dockerd --bridge=none --iptables=false --storage-driver=vfs --data-root=/tmp/engine/data \
#         --exec-root=/tmp/engine/exec --pidfile=/tmp/engine/pid --host=unix:///tmp/engine/sock
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
image=toolwright-sandbox-check:$$
limits=(--memory 2g --pids-limit 256)
# The engine may measure no processor time on small machines; then the limit is left out.
docker info --format '{{.CPUCfsQuota}}' | grep -q true && limits+=(--cpus 2)
default=(--tmpfs /home:exec,mode=755)
compose=(--cap-drop ALL --cap-add SETUID --cap-add SETGID --cap-add SYS_CHROOT --cap-add KILL
    --security-opt no-new-privileges --read-only --tmpfs /tmp --volume /home --init "${limits[@]}")

trap 'docker rmi --force "$image" >/dev/null 2>&1 || true' EXIT
"$python" -m infra.docker.sandbox_image | docker import - "$image" >/dev/null

failures=0
for options in "${@:-default compose}"; do
    for name in $options; do
        declare -n chosen=$name
        echo "== $name: ${chosen[*]}" >&2
        docker run --rm --network none --workdir /opt/toolwright "${chosen[@]}" \
            --env PYTHONDONTWRITEBYTECODE=1 "$image" \
            /usr/local/bin/python3 -m tests.integration.sandbox.attack_run /home/sandbox auto ||
            failures=$((failures + 1))
    done
done
exit "$failures"
