/**
 * Model families.
 *
 * @module
 */

import type { Family } from "./family.ts";
import { llama } from "./llama.ts";

export { type ConfigReader, configReader, type Family } from "./family.ts";
export { hiddenStates, logits, type Model, nextTokenLoss, type TokenBatch } from "./model.ts";
export { llama, type LlamaConfig, type LlamaLayer, type LlamaParams } from "./llama.ts";

/** Families by `model_type`. A new one adds a file and a row. */
export const families: { readonly [modelType: string]: Family } = { llama };
