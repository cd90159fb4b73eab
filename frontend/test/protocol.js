import protocol from "../../docs/protocol.md?raw";

/**
 * A marked table of docs/protocol.md as codes with their statuses. The service's tests hold the tables to the service and
 * to nginx.conf.
 *
 * @param {"errors" | "nginx errors"} name
 * @returns {Map<string, string>}
 */
function tableOf(name) {
  const table = protocol.split(`<!-- ${name} -->`)[1]?.split(`<!-- /${name} -->`)[0] ?? "";
  const rows = table.matchAll(/^\| `(\w+)` \| ([^|]*?) \|/gm);
  return new Map(Array.from(rows, ([, code, status]) => [String(code), String(status)]));
}

export const SERVICE_ERRORS = tableOf("errors");
export const NGINX_ERRORS = tableOf("nginx errors");
