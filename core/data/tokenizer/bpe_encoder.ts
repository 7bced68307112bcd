/**
 * Byte-pair encoding: of all neighbours, those of the first merge in the list become one token, until none is left.
 *
 * Source: Sennrich 2016, "Neural Machine Translation of Rare Words with Subword Units"; the Rust crate `tokenizers`.
 *
 * @module
 */

/** Data of {@link bpeEncoder}. */
export interface BpeOptions {
  /** Ids of tokens. */
  readonly vocabulary: ReadonlyMap<string, number>;
  /** Pairs of tokens of the vocabulary that make another, the first ones first. */
  readonly merges: readonly (readonly [left: string, right: string])[];
  /** Id of characters without a token; such characters are left out when absent. */
  readonly unknown?: number;
  /** Unknown characters side by side are one token. */
  readonly fuseUnknown: boolean;
  /** Characters without a token are written as tokens of their bytes, where these are in the vocabulary. */
  readonly byteFallback: boolean;
  /** A word that is a token is that token, whatever the merges. */
  readonly ignoreMerges: boolean;
  /** Ends the last character of a word; empty for none. */
  readonly suffix: string;
}

/** Ids are below it. */
const IDS = 2 ** 21;

/**
 * Makes the function from a word to ids. It takes 36 bytes for each character of a word.
 *
 * @param options Vocabulary and merges
 * @returns The function
 */
export function bpeEncoder(options: BpeOptions): (word: string) => readonly number[] {
  const { vocabulary, merges, ignoreMerges } = options;
  const ranks = new Map<number, number>(), made = new Int32Array(merges.length);
  merges.forEach(([left, right], rank) => {
    ranks.set(vocabulary.get(left)! * IDS + vocabulary.get(right)!, rank);
    made[rank] = vocabulary.get(left + right)!;
  });
  return (word) => {
    const whole = ignoreMerges ? vocabulary.get(word) : undefined;
    return whole === undefined ? merged(charactersOf(word, options), { ranks, made }) : [whole];
  };
}

/** The ids of the characters of a word. */
function charactersOf(
  word: string,
  { vocabulary, unknown, fuseUnknown, byteFallback, suffix }: BpeOptions,
): number[] {
  const ids: number[] = [];
  let unknowns = 0;
  const flush = (): void => {
    while (unknowns-- > 0) ids.push(unknown!);
    unknowns = 0;
  };
  for (let at = 0; at < word.length;) {
    const character = String.fromCodePoint(word.codePointAt(at)!);
    at += character.length;
    const text = at === word.length ? character + suffix : character, id = vocabulary.get(text);
    if (id !== undefined) {
      flush();
      ids.push(id);
      continue;
    }
    const bytes = byteFallback ? byteIds(text, vocabulary) : null;
    if (bytes !== null) ids.push(...bytes);
    else if (unknown !== undefined) unknowns = fuseUnknown ? 1 : unknowns + 1;
  }
  flush();
  return ids;
}

function byteIds(text: string, vocabulary: ReadonlyMap<string, number>): readonly number[] | null {
  const ids: number[] = [];
  for (const byte of new TextEncoder().encode(text)) {
    const id = vocabulary.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    if (id === undefined) return null;
    ids.push(id);
  }
  return ids;
}

/** The pairs that merge, and what each makes. */
interface Merges {
  readonly ranks: ReadonlyMap<number, number>;
  readonly made: Int32Array;
}

/** Merges ids; those that are gone are -1 meanwhile. A queue has the pairs by rank, then by place. */
function merged(list: readonly number[], { ranks, made }: Merges): readonly number[] {
  const count = list.length;
  if (count < 2) return list;
  const ids = Int32Array.from(list), before = ids.map((_, i) => i - 1), after = ids.map((_, i) => i + 1);
  const queue = queueOf(3 * count);
  const rankAt = (at: number): number | undefined => {
    const next = after[at];
    return at < 0 || next >= count ? undefined : ranks.get(ids[at] * IDS + ids[next]);
  };
  const offer = (at: number): void => {
    const rank = rankAt(at);
    if (rank !== undefined) queue.push(rank * 2 ** 30 + at);
  };
  for (let at = 0; at < count - 1; at++) offer(at);
  for (let top = queue.pop(); top !== undefined; top = queue.pop()) {
    const at = top % 2 ** 30,
      token = made[Math.floor(top / 2 ** 30)],
      rank = ids[at] < 0 ? undefined : rankAt(at);
    if (rank === undefined || made[rank] !== token) continue;
    const next = after[at];
    ids[at] = token;
    ids[next] = -1;
    after[at] = after[next];
    if (after[at] < count) before[after[at]] = at;
    if (before[at] >= 0) offer(before[at]);
    offer(at);
  }
  return Array.from(ids.filter((id) => id >= 0));
}

interface Queue {
  push(value: number): void;
  /** The least value, taken out. */
  pop(): number | undefined;
}

/** A binary heap. */
function queueOf(most: number): Queue {
  const heap = new Float64Array(most);
  let size = 0;
  return {
    push(value) {
      let at = size++;
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (heap[parent] <= value) break;
        heap[at] = heap[parent];
        at = parent;
      }
      heap[at] = value;
    },
    pop() {
      if (size === 0) return undefined;
      const top = heap[0], value = heap[--size];
      let at = 0;
      for (let child = 1; child < size; child = 2 * at + 1) {
        if (child + 1 < size && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= value) break;
        heap[at] = heap[child];
        at = child;
      }
      heap[at] = value;
      return top;
    },
  };
}
