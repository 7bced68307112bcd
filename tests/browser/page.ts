/**
 * What a page imports that trains a new Llama, looks at what it says, and keeps it.
 *
 * @module
 */

export * from "@firn/train";
export { newModel } from "@firn/train/hub";
export { generate } from "@firn/train/infer";
