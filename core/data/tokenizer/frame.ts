/**
 * What a tokenizer puts around a text by itself: its post-processor, and `add_bos_token` and `add_eos_token`.
 *
 * @module
 */

import type { Fields } from "./fields.ts";

/** Ids around a text. */
export interface Frame {
  /** Ids before it. */
  readonly before: readonly number[];
  /** Ids after it. */
  readonly after: readonly number[];
}

/**
 * Reads the post-processor for one text.
 *
 * @param fields Its description; null for none
 * @param most The highest id
 * @returns The ids
 * @throws {DataError} When it is of an unknown kind, or an id is not a whole number up to the limit
 */
export function frameOf(fields: Fields | null, most: number): Frame {
  if (fields === null) return { before: [], after: [] };
  const type = fields.word(
    "type",
    ["ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "Sequence"],
  );
  switch (type) {
    case "ByteLevel":
      return { before: [], after: [] };
    case "TemplateProcessing":
      return templateFrame(fields, most);
    case "BertProcessing":
    case "RobertaProcessing": {
      const [cls, sep] = ["cls", "sep"].map((key) => idOf(fields, { key, id: fields.list(key)[1], most }));
      return { before: [cls], after: [sep] };
    }
    case "Sequence":
      return fields.objects("processors").map((one) => frameOf(one, most)).reduce(
        (inner, outer) => ({
          before: [...outer.before, ...inner.before],
          after: [...inner.after, ...outer.after],
        }),
        { before: [], after: [] },
      );
  }
}

function templateFrame(fields: Fields, most: number): Frame {
  const special = fields.object("special_tokens"), before: number[] = [], after: number[] = [];
  let texts = 0;
  for (const item of fields.objects("single")) {
    const token = item.object("SpecialToken"), text = item.object("Sequence");
    if (text !== null) texts++;
    else if (token !== null) {
      const entry = special?.object(token.text("id")) ?? null;
      if (entry === null) {
        throw fields.error("special_tokens", `a record with "${token.text("id")}"`, special?.json);
      }
      const ids = entry.list("ids").map((id) => idOf(entry, { key: "ids", id, most }));
      (texts === 0 ? before : after).push(...ids);
    } else throw fields.error("single", "a list of SpecialToken and Sequence", item.json);
  }
  if (texts !== 1) throw fields.error("single", "a list with one Sequence", fields.json.single);
  return { before, after };
}

function idOf(
  fields: Fields,
  { key, id, most }: { readonly key: string; readonly id: unknown; readonly most: number },
): number {
  if (!(Number.isSafeInteger(id) && id as number >= 0 && id as number <= most)) {
    throw fields.error(key, `an id, a whole number from 0 to ${most}`, id);
  }
  return id as number;
}
