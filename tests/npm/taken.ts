/**
 * Says whether a folder is taken: `taken.ts FOLDER`.
 *
 * @module
 */

import { FileError } from "@firn/train";
import { lockFolder } from "@firn/train/data";
import { print } from "../../examples/print.ts";

try {
  await using _lock = await lockFolder(Deno.args[0]);
  print("free");
} catch (error) {
  if (!(error instanceof FileError)) throw error;
  print("taken");
}
