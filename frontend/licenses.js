import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const NAME = "licenses.txt";

/**
 * Add the licences of the packages that are in a build to it, as one file.
 *
 * @returns {import("vite").Plugin}
 */
export function licenses() {
  return {
    name: "licenses",
    generateBundle(_, bundle) {
      const chunks = Object.values(bundle).filter((output) => output.type === "chunk");
      const packages = new Set(
        chunks
          .flatMap((chunk) => Object.entries(chunk.modules))
          .filter(([, { renderedLength }]) => renderedLength > 0)
          .flatMap(
            ([id]) => /^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id.replace(/^\0/, ""))?.[1] ?? [],
          ),
      );
      const source = [...packages]
        .sort()
        .map(licenseOf)
        .join(`\n${"-".repeat(72)}\n\n`);
      this.emitFile({ type: "asset", fileName: NAME, source });
    },
  };
}

/** @param {string} directory of a package */
function licenseOf(directory) {
  const { name, version, license } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
  const file = readdirSync(directory).find((each) => /^licen[cs]e/i.test(each));
  if (!file) {
    throw new Error(`${name} has no file with its licence`);
  }
  return `${name} ${version} (${license})\n\n${readFileSync(join(directory, file), "utf8").trim()}\n`;
}
