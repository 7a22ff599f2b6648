#!/bin/sh
# What an init runs in Warren's container: the server, and the next one when it ends.
#
# Sandboxes are not children of the server and go on without it, so the container must not end with
# it. Arguments are those of `warren serve`. `warren serve --stop` ends the server, and the loop
# starts the program that is there then: that is how a running container is upgraded. SIGTERM,
# which is what `docker stop` sends, ends the server and the loop, and with the container all
# sandboxes end.
set -u

asked=
server=

end() {
    asked=yes
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null
    fi
}
trap end TERM INT

while [ -z "$asked" ]; do
    warren serve "$@" &
    server=$!
    wait "$server"
    status=$?
    # A signal ends the waiting, not the server.
    while kill -0 "$server" 2>/dev/null; do
        wait "$server"
        status=$?
    done
    server=
    if [ "$status" -ne 0 ] && [ -z "$asked" ]; then
        echo "the server ended with status $status; starting it again in a second" >&2
        sleep 1 &
        wait $!
    fi
done
exit "$status"
