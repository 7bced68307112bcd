/**
 * A selective state-space model on characters: a language model without attention, which reads in time that grows with the length
 * of the text and not with its square. It is made of public ops.
 *
 * Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752, algorithm 2, without
 * the short convolution.
 *
 * Axes: B batch, T characters, C channels, N numbers of the state of a channel, V characters that are told apart.
 *
 * @module
 */

import {
  add,
  crossEntropy,
  embedding,
  exp,
  multiply,
  negate,
  reshape,
  slice,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { linear, type LinearParams } from "@firn/train/nn";
import { associativeScan, silu, softplus } from "@firn/train/ops";
import { initialiser, normed, stack } from "./layers.ts";

const CHANNELS = 64, STATE = 4, LAYERS = 2;
/** A character of a text is one of these; all others are spaces. */
export const ALPHABET = "\n !\"'(),-.0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz$";

/** A block: what a character writes to the state, how fast the state decays, and what is read of it, all follow from the character. */
export interface SsmLayer {
  readonly norm: { readonly weight: Tensor };
  readonly value: LinearParams;
  readonly gate: LinearParams;
  /** How much time passes with a character, before softplus. */
  readonly step: LinearParams;
  readonly write: LinearParams;
  readonly read: LinearParams;
  /** f32 [C, N]: logarithms of the rates of decay. */
  readonly decay: { readonly weight: Tensor };
  /** f32 [C]: what goes past the state. */
  readonly skip: { readonly weight: Tensor };
  readonly out: LinearParams;
}

/** Vectors of characters [V, C], blocks from the bottom, the last norm and the scores. */
export type SsmParams = {
  readonly characters: { readonly weight: Tensor };
  readonly layers: { readonly [index: string]: SsmLayer };
  readonly norm: { readonly weight: Tensor };
  readonly head: LinearParams;
};

/** New parameters; the same seed gives the same. */
export function newSsm(seed: number): SsmParams {
  const make = initialiser(seed), square = (gain?: number) => make.linear(CHANNELS, CHANNELS, gain);
  const rates = Float32Array.from({ length: CHANNELS * STATE }, (_, i) => Math.log(1 + i % STATE));
  return {
    characters: { weight: make.normal([ALPHABET.length, CHANNELS], 1) },
    layers: stack(LAYERS, () => ({
      norm: make.norm(CHANNELS),
      value: square(),
      gate: square(),
      // Softplus of -2 is 0.13: the slowest rate forgets a half in 5 characters, until it learns better.
      step: { ...square(0.5), bias: tensor(new Float32Array(CHANNELS).fill(-2)) },
      write: make.linear(CHANNELS, STATE),
      read: make.linear(CHANNELS, STATE),
      decay: { weight: tensor(rates, [CHANNELS, STATE]) },
      skip: make.norm(CHANNELS),
      out: square(),
    })),
    norm: make.norm(CHANNELS),
    head: make.linear(CHANNELS, ALPHABET.length, 0.1),
  };
}

/**
 * The selective scan: `h[t] = exp(step[t] rate) h[t - 1] + step[t] write[t] x[t]`, of which `read[t]` is read.
 *
 * @param x f32 [B, T, C]
 * @param layer Its parameters
 * @returns f32 [B, T, C]
 */
export function selectiveScan(
  x: Tensor,
  { step, write, read, decay, skip }: Pick<SsmLayer, "step" | "write" | "read" | "decay" | "skip">,
): Tensor {
  const [batch, time, channels] = x.shape, [, state] = decay.weight.shape;
  const ofChannels = (t: Tensor): Tensor => reshape(t, [batch, time, channels, 1]);
  const ofState = (params: LinearParams): Tensor => reshape(linear(x, params), [batch, time, 1, state]);
  const passed = softplus(linear(x, step)); // [B, T, C]
  const kept = exp(negate(multiply(ofChannels(passed), exp(decay.weight)))); // [B, T, C, N]
  const written = multiply(ofChannels(multiply(passed, x)), ofState(write)); // [B, T, C, N]
  const [, states] = associativeScan(
    ([keep0, h0], [keep1, h1]) => [multiply(keep0, keep1), add(multiply(keep1, h0), h1)],
    [kept, written],
    { axis: 1 },
  );
  return add(sum(multiply(states, ofState(read)), [3]), multiply(x, skip.weight));
}

/** From ids i32 [B, T] to scores f32 [B, T, V] of the characters after each. */
export function ssmScores({ characters, layers, norm, head }: SsmParams, ids: Tensor): Tensor {
  let x = embedding(characters.weight, ids); // [B, T, C]
  for (const layer of Object.values(layers)) {
    const y = normed(x, layer.norm), seen = selectiveScan(silu(linear(y, layer.value)), layer);
    x = add(x, linear(multiply(seen, silu(linear(y, layer.gate))), layer.out));
  }
  return linear(normed(x, norm), head);
}

/** The loss of predicting each character of windows i32 [B, T + 1] but the first. */
export function ssmLoss(params: SsmParams, { inputIds }: { readonly inputIds: Tensor }): Tensor {
  const [batch, length] = inputIds.shape, sizes = [batch, length - 1];
  const scores = ssmScores(params, slice(inputIds, { starts: [0, 0], sizes }));
  const labels = slice(inputIds, { starts: [0, 1], sizes });
  return crossEntropy(
    reshape(scores, [batch * (length - 1), ALPHABET.length]),
    reshape(labels, [batch * (length - 1)]),
  );
}

/** Numbers of characters. */
export function idsOf(text: string): Int32Array {
  const space = ALPHABET.indexOf(" ");
  return Int32Array.from(text, (character) => {
    const id = ALPHABET.indexOf(character);
    return id < 0 ? space : id;
  });
}
