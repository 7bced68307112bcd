/**
 * Counts in texts for people.
 *
 * @module
 */

/**
 * A count and what it counts, in the number that goes with it.
 *
 * @param count The count, or its text
 * @param noun What is counted, in the singular
 * @returns Such as "1 batch", "2 batches" and "0 entries"
 */
export function counted(count: number | string, noun: string): string {
  if (String(count) === "1") return `${count} ${noun}`;
  if (/[^aeiou]y$/.test(noun)) return `${count} ${noun.slice(0, -1)}ies`;
  return `${count} ${noun}${/([sxz]|[nt]ch|sh)$/.test(noun) ? "es" : "s"}`;
}
