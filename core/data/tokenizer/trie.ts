/**
 * A tree of texts by their code units.
 *
 * @module
 */

/** A node: what stands at its end, and the nodes after it by code unit. */
export interface Trie<T> {
  /** What a text that ends here stands for. */
  value?: T;
  /** The nodes after it. */
  readonly next: Map<string, Trie<T>>;
}

/**
 * Builds a tree.
 *
 * @param entries Texts and what they stand for; of equal texts the first counts, an empty one is left out
 * @returns Its root
 */
export function trieOf<T>(entries: Iterable<readonly [string, T]>): Trie<T> {
  const root: Trie<T> = { next: new Map() };
  for (const [text, value] of entries) {
    let node = root;
    for (let i = 0; i < text.length; i++) {
      let child = node.next.get(text[i]);
      if (child === undefined) node.next.set(text[i], child = { next: new Map() });
      node = child;
    }
    if (node !== root) node.value ??= value;
  }
  return root;
}
