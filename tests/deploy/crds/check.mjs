// Custom resources against the definitions of those who take them: the Gateway API and the Prometheus operator. Their
// published checks know types and patterns; their types, through the TypeScript compiler, that there is no unknown field.
//
//   node check.mjs FILE      FILE has the resources as a JSON list; packages are looked for beside this file
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const PACKAGES = { "gateway.networking.k8s.io": "gateway-api", "monitoring.coreos.com": "prometheus-operator" };

function fail(problem) {
  console.error(`crds: ${problem}`);
  process.exit(1);
}

const resources = JSON.parse(readFileSync(process.argv[2], "utf8"));
const lines = [];
for (const [number, resource] of resources.entries()) {
  const [group, version] = resource.apiVersion.split("/");
  const known = PACKAGES[group] ?? fail(`nothing is known of ${resource.apiVersion}`);
  const path = `@kubernetes-models/${known}/${group}/${version}/${resource.kind}`;
  const { [resource.kind]: Kind } = await import(path);
  try {
    new Kind(resource).validate();
  } catch (problem) {
    fail(`${resource.kind} ${resource.metadata.name}: ${problem.message}`);
  }
  lines.push(`import type { I${resource.kind} as I${number} } from "${path}";`);
  lines.push(`export const of${number}: I${number} = ${JSON.stringify(resource)};`);
}

const file = fileURLToPath(new URL("resources.ts", import.meta.url));
writeFileSync(file, lines.join("\n"));
const options = { strict: true, noEmit: true, skipLibCheck: true, types: [], module: ts.ModuleKind.ES2022, moduleResolution: ts.ModuleResolutionKind.Bundler };
const program = ts.createProgram([file], options);
for (const problem of ts.getPreEmitDiagnostics(program)) {
  fail(ts.flattenDiagnosticMessageText(problem.messageText, "\n"));
}
console.log(`crds: ${resources.map((resource) => resource.kind).join(", ")}`);
