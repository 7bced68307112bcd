/**
 * STUDY.md and its plot are what the runs in the repository give.
 *
 * @module
 */

import { assert } from "@std/assert";
import { readF32 } from "./study_f32.ts";
import { readKept } from "./study_kept.ts";
import { PLAN } from "./study_plan.ts";
import { writeReport } from "./study_report.ts";

/** A text without what `deno fmt` changes: white space, the rule of a table, and white space at tags. */
function squeezed(text: string): string {
  return text.replace(/-{3,}/g, "---").replace(/\s+/g, " ").replace(/ ?(<|\/?>) ?/g, "$1");
}

Deno.test("STUDY.md and study.svg are what the kept runs give, to the digit", async () => {
  const given = import.meta.dirname!, made = await Deno.makeTempDir();
  try {
    const { lines, cache } = await readKept(`${given}/study_runs.jsonl`);
    assert(lines.length > 0);
    const f32 = await readF32(PLAN, { kept: `${given}/study_runs.jsonl`, lines });
    await Deno.copyFile(`${given}/STUDY.md`, `${made}/STUDY.md`);
    await writeReport(PLAN, { lines, cache, f32, document: `${made}/STUDY.md` });
    for (const name of ["STUDY.md", "study.svg"]) {
      const [kept, report] = [given, made].map((folder) =>
        squeezed(Deno.readTextFileSync(`${folder}/${name}`))
      );
      const at = `${report}\n`.split("").findIndex((char, i) => char !== kept[i]);
      const near = (text: string): string => text.slice(Math.max(0, at - 80), at + 40);
      assert(
        kept === report,
        `${name} has "${near(kept)}", not "${near(report)}": study.ts --report and deno fmt`,
      );
    }
  } finally {
    await Deno.remove(made, { recursive: true });
  }
});
