/**
 * The example `compare`: which folders it takes, and where its page goes.
 *
 * @module
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { main } from "../../examples/compare.ts";
import { inFolder } from "../data/files.ts";
import { startLine, stepLines, textOf } from "../report/run_lines.ts";
import { call, example } from "./process.ts";

async function twoRuns(folder: string): Promise<void> {
  for (const [place, lr] of [["a/x", 1], ["b/x", 2]] as const) {
    await Deno.mkdir(`${folder}/${place}`, { recursive: true });
    const lines = [startLine({ config: { model: "m", lr, watch: lr } }), ...stepLines(1, 3)];
    await Deno.writeTextFile(`${folder}/${place}/metrics.jsonl`, textOf(lines) + '{"torn');
  }
}

Deno.test("compare takes folders of runs, passes over what is none, and replaces its own page alone", async () => {
  await inFolder(async (folder) => {
    await twoRuns(folder);
    await Deno.mkdir(`${folder}/none`);
    const out = `${folder}/new/page.html`;
    const args = [`${folder}/a/x`, `${folder}/b/x/`, `${folder}/none`, `${folder}/a/x`, "--out", out];
    const { code, stdout, stderr } = await example("compare", args, folder);
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(stdout, `passed over ${folder}/none: no run\n`);
    const page = await Deno.readTextFile(out);
    // Both end in x, so their whole paths name them.
    assertStringIncludes(page, `${folder}/b/x`);
    assertStringIncludes(page, "<h1>2 runs</h1>");
    assertEquals(page.includes('<th scope="row">watch</th>'), false);
    assertEquals(await call(main, args), null);
    await Deno.writeTextFile(out, "<p>my notes</p>");
    assertStringIncludes(`${await call(main, args)}`, "it is something else; choose another --out");
    assertEquals(await Deno.readTextFile(out), "<p>my notes</p>");
  });
});

const REFUSED: readonly (readonly [args: readonly string[], message: string])[] = [
  [[], "name output folders of runs, before any flag"],
  [["--out", "x"], "name output folders of runs, before any flag"],
  [["@/a", "@/none"], 'Cannot compare "@/a", "@/none" as one must be the output folder of a run'],
];

Deno.test("compare refuses to compare nothing", async () => {
  await inFolder(async (folder) => {
    for (const [args, message] of REFUSED) {
      const error = await call(main, args.map((arg) => arg.replace("@", folder)));
      assertStringIncludes(`${error}`, message.replaceAll("@", folder));
    }
  });
});
