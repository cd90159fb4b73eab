#!/bin/sh
# nginx in a container: fills in nginx.conf from the environment and becomes nginx. All that it writes is under
# FOLYAM_NGINX_DIR.
set -eu
mkdir -p "$FOLYAM_NGINX_DIR"
# Where files for `include server.d/*.conf` can be mounted.
ln -sfn /etc/folyam/server.d "$FOLYAM_NGINX_DIR/server.d"
# Only its own variables: nginx has some that look the same.
# shellcheck disable=SC2016
envsubst '${FOLYAM_LISTEN} ${FOLYAM_SERVICE} ${FOLYAM_RESOLVER} ${FOLYAM_WEB_ROOT} ${FOLYAM_NGINX_DIR}
    ${FOLYAM_NGINX_USER} ${FOLYAM_ACCESS_LOG} ${FOLYAM_CLIENT_CONNECTIONS} ${FOLYAM_CLIENT_REQUESTS}
    ${FOLYAM_MAX_BODY_BYTES}' \
    </etc/folyam/nginx.conf >"$FOLYAM_NGINX_DIR/nginx.conf"
exec nginx -c "$FOLYAM_NGINX_DIR/nginx.conf" -e stderr
