// Validates custom resources, read from standard input as a JSON array, strictly: a field that a schema does not know is
// an error, where an API server would drop it in silence. Prints what is wrong; the exit status says whether anything is.
//
// The packages register their schemas with their own validator, which lets unknown fields pass. Here they are taken on
// their way there.

const Ajv = require("ajv").default;
const addFormats = require("ajv-formats").default;
const validation = require("@kubernetes-models/validate");

const schemas = new Map();
validation.register = (id, schema) => schemas.set(id, schema);

const models = {
  "gateway.networking.k8s.io/v1": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1",
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
};

const strict = (schema) => {
  if (Array.isArray(schema)) return schema.map(strict);
  if (schema === null || typeof schema !== "object") return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, strict(value)]));
  const free = "additionalProperties" in copy || schema["x-kubernetes-preserve-unknown-fields"];
  if (schema.type === "object" && schema.properties && !free) copy.additionalProperties = false;
  return copy;
};

const problems = [];
for (const manifest of JSON.parse(require("node:fs").readFileSync(0, "utf8"))) {
  const name = `${manifest.kind} ${manifest.metadata?.name}`;
  const model = models[manifest.apiVersion] && require(models[manifest.apiVersion])[manifest.kind];
  if (!model) {
    problems.push(`${name}: no schema is known for it`);
    continue;
  }
  // Its own validation is what makes it register its schema.
  try {
    new model(manifest).validate();
  } catch {
    // Said below, with more.
  }
  const ajv = new Ajv({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addFormat("quantity", true);
  ajv.addFormat("string", true);
  for (const [id, schema] of schemas) if (!ajv.getSchema(id)) ajv.addSchema(strict(schema), id);
  const id = `${manifest.apiVersion.replace("/", ".")}.${manifest.kind}`;
  if (!ajv.validate(id, manifest)) {
    for (const error of ajv.errors) {
      problems.push(`${name}: ${error.instancePath} ${error.message} ${error.params.additionalProperty ?? ""}`);
    }
  }
}
console.log(problems.join("\n"));
process.exitCode = problems.length ? 1 : 0;
