/**
 * The commands that ask a hub: what they refuse before they ask it.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { main as download } from "../../examples/download.ts";
import { main as push } from "../../examples/push.ts";
import { failureOf } from "../../examples/flags.ts";
import { shortName } from "../../examples/hub.ts";
import { inFolder } from "../data/files.ts";
import { call } from "../examples/process.ts";

Deno.test("push and download answer a command line that cannot be right with one line, and ask no hub", async () => {
  await inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/run`);
    await Deno.writeTextFile(`${folder}/run/metrics.jsonl`, "");
    await Deno.mkdir(`${folder}/model`);
    await Deno.writeTextFile(`${folder}/model/config.json`, "[");
    const sotu = "examples/models/sotu";
    const cases: readonly (readonly [typeof push, string[], number, string])[] = [
      [push, [], 2, "name a folder, then owner/name"],
      [push, [sotu], 2, "name a folder, then owner/name"],
      [push, [sotu, "me/x", "y"], 2, '"y" is too much'],
      [push, [sotu, "me/x@dev"], 2, "--revision"],
      [push, [sotu, "me/x", "--publc"], 2, "--publc"],
      [push, [sotu, "x"], 1, "must be owner/name"],
      [push, [sotu, "me/x"], 1, "run it through ./firn"],
      [push, [`${folder}/nowhere`, "me/x"], 1, "there is no such folder"],
      [push, [`${folder}/run`, "me/x"], 1, "it holds neither; end the run"],
      [push, [`${folder}/model`, "me/x"], 1, "must be a JSON object"],
      [download, [], 2, "name a model of a hub"],
      [download, ["--all"], 2, 'no flag "--all"'],
      [download, ["hub:rows"], 1, "must be owner/name"],
      [download, ["org/name"], 1, "run it through ./firn"],
    ];
    for (const [main, args, code, message] of cases) {
      const seen = failureOf(await call(main, args), "x");
      assertEquals([seen.code, seen.text.includes(message)], [code, true], `${args}: ${seen.text}`);
    }
  });
});

Deno.test("shortName keeps 7 digits of a commit, and all of any other revision", () => {
  const commit = "0123456789abcdef0123456789abcdef01234567";
  assertEquals(shortName(`a/b@${commit}`), "a/b@0123456");
  assertEquals([shortName("a/b@main"), shortName("./a")], ["a/b@main", "./a"]);
});
