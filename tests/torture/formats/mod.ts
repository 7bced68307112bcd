/**
 * All formats that Firn reads.
 *
 * @module
 */

import { adapter } from "./adapter.ts";
import { checkpoint } from "./checkpoint.ts";
import { families } from "./families.ts";
import { gguf } from "./gguf.ts";
import { hub } from "./hub.ts";
import { log } from "./log.ts";
import { model } from "./model.ts";
import { rows } from "./rows.ts";
import { body, header } from "./safetensors.ts";
import { text } from "./text.ts";
import { tokenizer } from "./tokenizer.ts";
import type { Format } from "./types.ts";

/** The formats, in the order of the table. */
export const FORMATS: readonly Format[] = [
  header,
  body,
  ...model,
  families,
  ...tokenizer,
  ...adapter,
  ...checkpoint,
  log,
  ...hub,
  ...text,
  ...rows,
  ...gguf,
];
