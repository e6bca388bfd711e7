#!/bin/sh
# Follows a key with curl alone: watch.sh http://127.0.0.1:7948 /app/web/greeting
#
# Prints "EVENT VALUE" for what stands and for every change. When the agent is lost it tries again, and goes on from the
# last id that it saw; if the agent says `gap`, everything is told anew. Nothing is verified here: for that there is
# `kvgossip watch --root ROOT.pub`.
set -u
agent=$1 key=$2 last=
state=$(mktemp) && trap 'rm -f "$state"' EXIT
while :; do
    curl --silent --no-buffer --max-time "${WATCH_SECONDS:-3600}" ${last:+--header "Last-Event-ID: $last"} \
        --get --data-urlencode "key=$key" --data heartbeat_ms=5000 "$agent/v1/watch" |
        while IFS= read -r line; do
            case $line in
            id:*) printf %s "${line#id: }" >"$state" ;;
            event:*) event=${line#event: } ;;
            data:*)
                [ "$event" = key ] || continue
                # Without a JSON tool: the state, and the value where it is plain text.
                printf '%s %s\n' \
                    "$(printf %s "$line" | sed -n 's/.*"kind":"\([a-z]*\)".*/\1/p')" \
                    "$(printf %s "$line" | sed -n 's/.*"value":"\([^"\\]*\)".*/\1/p')"
                ;;
            esac
        done
    [ -n "${WATCH_ONCE:-}" ] && exit 0
    last=$(cat "$state")
    sleep 1
done
