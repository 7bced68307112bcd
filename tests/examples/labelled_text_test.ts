/**
 * Labelled texts: their parts, mails without headers, and files of rows.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DataError, InputError, NotFoundError } from "@firn/train";
import { divided, readRows, subjectAndBody } from "../../examples/labelled_text.ts";

const ROWS = Array.from({ length: 90 }, (_, i) => ({
  text: `Number ${i} of the people and of the States.`,
  label: i % 3 === 0 ? "threefold" : "other",
}));

Deno.test("divided splits by text alone: whatever the order, and no text in two parts", () => {
  const { train, validation, test } = divided([...ROWS, ...ROWS]);
  assertEquals(train.length + validation.length + test.length, 90);
  assert(train.length > 60 && validation.length > 3 && test.length > 3);
  const texts = (part: readonly { text: string }[]) => part.map(({ text }) => text).toSorted();
  assertEquals(texts(divided(ROWS.toReversed()).test), texts(test));
  assertThrows(
    () => divided(ROWS.map((row) => ({ ...row, label: "one" }))),
    InputError,
    "got 1 label in",
  );
});

Deno.test("subjectAndBody drops all headers but the subject", () => {
  const mail =
    "From a@b Thu\nReceived: by zzzz\nSubject: Hello\n there\nX-Spam: yes\n\nThe  body,\n\nall of it.\n";
  assertEquals(subjectAndBody(mail), "Hello there The body, all of it.");
  assertEquals(subjectAndBody("Subject: only"), "only");
  assertEquals(subjectAndBody("From x\n\nSubject: quoted"), "Subject: quoted");
});

Deno.test("readRows names the line that is no example", async () => {
  const path = await Deno.makeTempFile({ suffix: ".jsonl" });
  try {
    await Deno.writeTextFile(path, `${ROWS.map((row) => JSON.stringify(row)).join("\n")}\n\n`);
    assertEquals((await readRows(path)).train, divided(ROWS).train);
    await Deno.writeTextFile(path, '{"text": "a", "label": "b"}\n{"text": "a"}\n');
    await assertRejects(() => readRows(path), DataError, `Cannot use line 2 of "${path}"`);
    await assertRejects(() => readRows(`no-${path.slice(1)}`), NotFoundError, "there is no such file");
  } finally {
    await Deno.remove(path);
  }
});
