import { assertEquals } from "@std/assert";
import { corpusOf } from "@firn/train/data";
import { conversationsOf } from "../../examples/chat.ts";

Deno.test("conversations are neighbouring quotations of one chapter, by turns", async () => {
  const say = (words: string): string => `“${words}” said he, and went.`;
  const chapters = [["Who goes there?", "It is I, sir.", "Come\n  aboard.", "Aye aye, sir."], [
    "What whale?",
    "The white one.",
  ]];
  const found = await conversationsOf(
    corpusOf(chapters.map((quotes) => quotes.map(say).join("\n") + ' "No."')),
  );
  assertEquals(found, [[
    { role: "user", content: "Who goes there?" },
    { role: "assistant", content: "It is I, sir." },
    { role: "user", content: "Come aboard." },
    { role: "assistant", content: "Aye aye, sir." },
  ]]);
});
