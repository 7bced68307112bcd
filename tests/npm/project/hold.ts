/**
 * Takes a folder and holds it until the process is ended: `node hold.js FOLDER`.
 *
 * @module
 */

import { lockFolder } from "@firn/train/data";
import process from "node:process";

await lockFolder(process.argv[2]);
console.log("held");
setTimeout(() => {}, 60_000);
