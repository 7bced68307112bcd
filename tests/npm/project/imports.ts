/**
 * Imports every module that the installed package exports.
 *
 * @module
 */

import { readFileSync } from "node:fs";

const { exports } = JSON.parse(readFileSync("node_modules/@firn/train/package.json", "utf8")) as {
  readonly exports: Readonly<Record<string, unknown>>;
};
for (const path of Object.keys(exports)) {
  const { length } = Object.keys(await import(`@firn/train${path.slice(1)}`));
  if (length === 0) throw new Error(`"${path}" exports nothing`);
}
console.log(`${Object.keys(exports).length} modules imported`);
