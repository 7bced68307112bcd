import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { blocksOf } from "./blocks.ts";
import { shareOf } from "./share_of.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/**
 * Grows the frozen set of a policy to whole layers from the bottom, so that the gradients of inputs are saved as well.
 *
 * A frozen matrix saves only the gradient of its weight; that of its input is saved when everything below is frozen
 * too, embedding and norms included. The prefix is the longest run of blocks from the lowest layer up of which the
 * policy froze at least a share of the elements. All of these blocks freeze, and what lies below the layers with them;
 * elsewhere the policy's set is unchanged. Blocks are those of {@link blocksOf}, with what lies above the layers last;
 * an embedding that is also the head lies below. When: with `cachePrefix: true`, or around a policy that freezes
 * matrices only.
 *
 * @param policy The policy
 * @param options `share` of the elements of a block, above 0 and at most 1; 0.9 when absent: all but norms and biases
 * @returns The policy that freezes as much, or more
 * @throws {InputError} When `share` is not above 0 and at most 1
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { closePrefix, only, stopAt } from "@firn/train/policies";
 *
 * const part = (path: string, layer: number | null, kind: "linear" | "norm" | "embedding", size: number) =>
 *   ({ path, layer, parameters: [], kind, size });
 * const components = [
 *   part("embed", null, "embedding", 99),
 *   ...[0, 1].flatMap((n) => [part(`${n}.norm`, n, "norm", 1), part(`${n}.up`, n, "linear", 9)]),
 * ];
 * const policy = closePrefix(only("0.up", stopAt(1)));
 * const start = policy.init(components, { steps: 10 });
 * const state = policy.next(start, { steps: [1], loss: [1], learningRate: [0.1], readings: {} });
 * assertEquals(policy.frozen(state), ["embed", "0.norm", "0.up"]);
 * ```
 */
export function closePrefix(
  policy: FreezePolicy,
  { share = 0.9 }: { readonly share?: number } = {},
): FreezePolicy {
  if (!(share > 0 && share <= 1)) {
    throw new InputError(
      `Cannot close the prefix of "${policy.name}" as "share" must be above 0 and at most 1: got ${share}`,
    );
  }
  return wrapPolicy(policy, {
    name: `closePrefix(${policy.name}, ${share})`,
    init(components, run) {
      const { below, layers, above } = blocksOf(components);
      const sizes = Object.fromEntries(components.map(({ path, size }) => [path, size]));
      const blocks = [...layers, above].map((paths) => paths.map((path) => ({ path, size: sizes[path] })));
      return { inner: policy.init(components, run), below, blocks };
    },
    next: (state, { look }) => ({ ...state, inner: policy.next(state.inner, look) }),
    frozen: ({ inner, ...chain }) => closed(policy.frozen(inner), { share, ...chain }),
    coming: policy.coming && (({ inner, ...chain }) => {
      const own = policy.coming!(inner);
      return own && closed(own, { share, ...chain });
    }),
    reason({ inner, blocks }, path) {
      const own = policy.frozen(inner);
      if (own.includes(path)) return policy.reason?.(inner, path) ?? null;
      const block = blocks.find((parts) => parts.some((part) => part.path === path)) ?? blocks[0];
      const value = frozenSize(block, own) / sizeOf(block);
      return {
        signal: "frozen share of its block",
        value,
        threshold: share,
        rule: `closePrefix(..., ${share})`,
      };
    },
  });
}

type Block = readonly { readonly path: string; readonly size: number }[];

/** A frozen set and the prefix that it all but fills. */
function closed(
  own: readonly string[],
  { share, below, blocks }: {
    readonly share: number;
    readonly below: readonly string[];
    readonly blocks: readonly Block[];
  },
): readonly string[] {
  const open = blocks.findIndex((block) => frozenSize(block, own) < shareOf(share, sizeOf(block)));
  if (open === 0) return own;
  const prefix = blocks.slice(0, open < 0 ? undefined : open).flat().map(({ path }) => path);
  return [...new Set([...below, ...prefix, ...own])];
}

function sizeOf(block: Block): number {
  return block.reduce((sum, { size }) => sum + size, 0);
}

/** Elements of the frozen components of a block. */
function frozenSize(block: Block, frozen: readonly string[]): number {
  return sizeOf(block.filter(({ path }) => frozen.includes(path)));
}
