/**
 * A classifier without a network: naive Bayes on the words of a text.
 *
 * Source: Manning, Raghavan and Schuetze, "Introduction to Information Retrieval", section 13.2, multinomial naive Bayes.
 *
 * @module
 */

import type { Example } from "./labelled_text.ts";

/**
 * The words of a text: letters and digits, and marks that advertisements like.
 *
 * @param text The text
 * @returns Its words in order
 */
export function wordsOf(text: string): string[] {
  return text.match(/[\p{L}\p{N}']+|[$!%]/gu) ?? [];
}

/**
 * Learns which words each class has.
 *
 * @param examples Labelled texts
 * @param names Names of the classes
 * @returns From a text to its most probable class
 */
export function bagOfWords(
  examples: readonly Example[],
  names: readonly string[],
): (text: string) => number {
  const counts = names.map(() => new Map<string, number>()), sizes = names.map(() => 0);
  const vocabulary = new Set<string>(), documents = names.map(() => 0);
  for (const { text, label } of examples) {
    const k = names.indexOf(label);
    documents[k]++;
    for (const word of wordsOf(text.toLowerCase())) {
      counts[k].set(word, (counts[k].get(word) ?? 0) + 1);
      sizes[k]++;
      vocabulary.add(word);
    }
  }
  return (text) => {
    const words = wordsOf(text.toLowerCase()).filter((word) => vocabulary.has(word));
    const scores = names.map((_, k) =>
      words.reduce(
        (sum, word) => sum + Math.log(((counts[k].get(word) ?? 0) + 1) / (sizes[k] + vocabulary.size)),
        Math.log((documents[k] + 1) / (examples.length + names.length)),
      )
    );
    return scores.indexOf(Math.max(...scores));
  };
}
