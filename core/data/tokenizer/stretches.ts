/**
 * Long texts in parts that can be encoded one by one.
 *
 * @module
 */

/** Characters from which a text is cut. */
const LONG = 2 ** 16;

/** Between a letter or digit and a space before a letter, where every common expression cuts too. */
const BORDER = /(?<=[\p{L}\p{N}])(?=[ ▁]\p{L})/gu;

/**
 * Makes the function that cuts long texts between words, so that memory and time stay in proportion to the text. No token
 * of the vocabulary may reach over such a border; where one does, texts stay whole.
 *
 * @param tokens The vocabulary
 * @returns From a text to its parts
 */
export function stretches(tokens: Iterable<string>): (text: string) => readonly string[] {
  for (const token of tokens) {
    if (/[^ ▁Ġ][ ▁Ġ]/u.test(token)) return (text) => [text];
  }
  return (text) => {
    const parts: string[] = [];
    let start = 0;
    while (text.length - start > LONG) {
      const end = borderAfter(text, start + LONG / 2);
      if (end < 0) break;
      parts.push(text.slice(start, end));
      start = end;
    }
    parts.push(text.slice(start));
    return parts;
  };
}

function borderAfter(text: string, from: number): number {
  const border = new RegExp(BORDER);
  border.lastIndex = from;
  return border.exec(text)?.index ?? -1;
}
