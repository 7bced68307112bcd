/**
 * What is said of data that a language model cannot be trained on.
 *
 * @module
 */

import { assertRejects } from "@std/assert";
import { DATA_FLAGS } from "../../examples/data_flags.ts";
import { readFlags, UsageError } from "../../examples/flags.ts";
import { openData } from "../../examples/open_data.ts";
import { inFolder } from "../data/files.ts";

Deno.test("rows that no language model is trained on are refused with the way that they are of use", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/a.jsonl`;
    const cases: readonly (readonly [object, string])[] = [
      [{ prompt: "a", chosen: "b", rejected: "c" }, "--columns prompt=prompt,completion=chosen"],
      [{ image: "a.png", label: "b" }, "./firn vision"],
    ];
    for (const [row, way] of cases) {
      await Deno.writeTextFile(path, JSON.stringify(row));
      const { values } = readFlags(["--data", path], DATA_FLAGS);
      await assertRejects(() => openData(values), UsageError, way);
    }
  });
});
