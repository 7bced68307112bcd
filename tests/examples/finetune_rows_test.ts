/**
 * The example `finetune` on rows: completions, conversations, packing.
 *
 * @module
 */

import { assertEquals, assertLess, assertMatch } from "@std/assert";
import { inFolder } from "../data/files.ts";
import { denoCommand, finetune, small, startProgram } from "./process.ts";

Deno.test("finetune learns completions of rows by name of column, and judges by a file of its own", async () => {
  await inFolder(async (folder) => {
    const lines = Array.from(
      { length: 24 },
      (_, i) => `"Number ${i}, in words?",the people of the United States`,
    );
    await Deno.writeTextFile(`${folder}/a.csv`, ["question,answer", ...lines.slice(0, 12)].join("\n"));
    await Deno.writeTextFile(
      `${folder}/b.csv`,
      ["question,answer", ...lines.slice(12), "only one"].join("\n"),
    );
    await Deno.writeTextFile(`${folder}/held.csv`, ["question,answer", ...lines.slice(0, 4)].join("\n"));
    const args = small(["--data", `${folder}/[ab].csv`, "--length", "32", "--out", `${folder}/out`]);
    const { code, stdout, stderr } = await finetune([
      ...[...args, "--columns", "prompt=question,completion=answer", "--skip-bad-rows", "1"],
      ...["--validation", `${folder}/held.csv`, "--no-sample", "--pack"],
    ], folder);
    assertEquals([code, stderr], [0, ""]);
    assertMatch(stdout, /^skipped {5}1 row that cannot be used$/m);
    assertMatch(stdout, /^data .*, 24 rows of kind completion$/m);
    assertMatch(stdout, /^rows {8}24 packed in \d+ of at most 32 tokens, \d+ tokens, \d+ of them learned$/m);
    const [, before, after] = stdout.match(/^perplexity {6}([\d.]+) → ([\d.]+) \(-\d+ %\)$/m)!;
    assertLess(Number(after), 0.7 * Number(before));
  });
});

Deno.test("finetune --show-batch prints conversations, learned tokens in brackets, and trains nothing", async () => {
  await inFolder(async (folder) => {
    const messages = [{ from: "human", value: "Who?" }, { from: "gpt", value: "We, the people." }];
    const rows = Array(4).fill(JSON.stringify({ conversations: messages })).join("\n");
    await Deno.writeTextFile(`${folder}/chat.jsonl`, rows);
    const template =
      "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if not loop.last %}; {% endif %}{% endfor %}" +
      "{% if add_generation_prompt %}; assistant: {% endif %}";
    const args = small(["--data", `${folder}/chat.jsonl`, "--length", "64", "--show-batch", "1"]);
    const none = await finetune(args, folder);
    assertMatch(none.stderr, /must have a chat template: it has none; name one with --chat-template FILE$/m);
    await Deno.writeTextFile(`${folder}/chat.jinja`, template.replace("; {% endif %}", "{% endif %}"));
    const other = await finetune([...args, "--chat-template", `${folder}/chat.jinja`], folder);
    assertMatch(
      other.stderr,
      /Cannot use line 1 of ".*chat\.jsonl" as .*chat\.jinja" must begin an answer as its prompt ends/,
    );
    await Deno.writeTextFile(`${folder}/chat.jinja`, template);
    args.push("--chat-template", `${folder}/chat.jinja`);
    const { code, stdout } = await finetune(args, folder);
    assertEquals(code, 0);
    assertMatch(stdout, /^row 1, \d+ tokens, \d+ learned\nuser: Who\?; assistant:\[ We, the people\.\]$/m);
    // A pipe shows no colours, whether NO_COLOR says so or not.
    const command = denoCommand(["--allow-read", "--allow-write", "examples/finetune.ts", ...args]);
    const piped = await startProgram(["env", "-u", "NO_COLOR", ...command], folder).output();
    assertEquals(new TextDecoder().decode(piped.stdout), stdout);
    assertEquals((await Array.fromAsync(Deno.readDir(folder))).some(({ name }) => name === "out"), false);
  });
});

Deno.test("finetune tells how many rows it does not learn from, and keeps texts apart that are not to be split", async () => {
  await inFolder(async (folder) => {
    const write = (name: string, rows: readonly unknown[]) =>
      Deno.writeTextFile(`${folder}/${name}`, rows.map((row) => JSON.stringify(row)).join("\n"));
    const chat = (role: string, i: number) => ({ messages: [{ role, content: `We, the ${i}.` }] });
    await write("chat.jsonl", [
      ...Array.from({ length: 18 }, (_, i) => chat("assistant", i)),
      ...["tool", "user", "user", "assistant"].map(chat),
    ]);
    const source =
      "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('No tools') }}{% endif %}" +
      "{{ m.content }}\n{% endfor %}";
    await Deno.writeTextFile(`${folder}/chat.jinja`, source);
    const show = async (name: string, args: readonly string[]) => {
      const all = small(["--data", name, "--length", "16", "--batch", "2", "--show-batch", "1", ...args]);
      return (await finetune(all, folder)).stdout;
    };
    const rows = await show(`${folder}/chat.jsonl`, [
      "--chat-template",
      `${folder}/chat.jinja`,
      "--skip-bad-rows",
      "1",
    ]);
    assertMatch(rows, /^skipped {5}1 row of which no tokens can be made$/m);
    assertMatch(rows, /^left out {4}1 row without a token to learn within 16 tokens$/m);
    const text = (i: number) => ({ text: "We, the people. ".repeat(i % 10 === 4 ? 20 : 1) });
    await write("text.jsonl", Array.from({ length: 20 }, (_, i) => text(i)));
    const dropped = await show(`${folder}/text.jsonl`, ["--long", "drop"]);
    assertMatch(dropped, /^rows {8}16 of at most 16 tokens/m);
    assertMatch(dropped, /^left out {4}2 rows without/m);
    await write("a.txt", ["We, the people. ".repeat(40)]);
    await write("b.txt", ["We, the states. ".repeat(40)]);
    assertMatch(await show(`${folder}/*.txt`, []), /^data {8}.*\*\.txt, \d+ windows of 16 tokens/m);
  });
});

Deno.test("finetune mixes files by weight, tells the share of each, and shows samples on the way", async () => {
  await inFolder(async (folder) => {
    const row = (i: number) => JSON.stringify({ prompt: `Number ${i}.`, completion: " We, the people." });
    const text = (i: number) =>
      JSON.stringify({ text: `The state of the union is strong in the year ${i}.` });
    await Deno.writeTextFile(`${folder}/a.jsonl`, Array.from({ length: 20 }, (_, i) => row(i)).join("\n"));
    await Deno.writeTextFile(`${folder}/b.jsonl`, Array.from({ length: 10 }, (_, i) => text(i)).join("\n"));
    const both = (
      second: string,
    ) => ["--data", `${folder}/a.jsonl:0.75`, `--data=${folder}/b.jsonl${second}`];
    const args = (
      second: string,
    ) => [...both(second), "--steps", "4", "--batch", "2", "--length", "32", "--pack"];
    const mixed = await finetune(args(""), folder);
    const none = await finetune(args(":-.25"), folder);
    assertMatch(none.stderr, /--data must have weights above 0: ".*b\.jsonl:-\.25" has -\.25/);
    assertMatch(mixed.stderr, /--data must have a weight for all or for none: ".*b\.jsonl" has none/);
    const { code, stdout, stderr } = await finetune(
      [...args(":.25"), "--out", `${folder}/out`, "--sample-every", "2", "--policy", "none", "--no-sample"],
      folder,
    );
    assertEquals([code, stderr], [0, ""]);
    assertMatch(stdout, /^data .*a\.jsonl, 18 rows of kind completion, 75\.0 % of the rows of a batch$/m);
    assertMatch(stdout, /^data .*b\.jsonl, 9 rows of kind text, 25\.0 % of the rows of a batch$/m);
    assertMatch(stdout, /^step 2: \u201cThe whale/m);
    assertMatch(stdout, /^waiting {5}\d+\.\d % of the time was for data$/m);
  });
});
