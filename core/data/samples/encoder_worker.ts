/**
 * The program of a worker that encodes examples.
 *
 * @module
 */

import { FirnError } from "../../errors.ts";
import { type ThreadScope, threadScope } from "../../host/thread.ts";
import type { Example } from "../rows/example.ts";
import { type EncoderFiles, encoderOf } from "./encoder_files.ts";
import type { Sample } from "./sample.ts";
import { ruleOf } from "./sample_source.ts";

/** What a worker is asked: first how to encode, then examples. */
export type Question = { readonly files: EncoderFiles } | { readonly examples: readonly Example[] };

/** What a worker answers, in the order of the questions. */
export type Answer =
  | { readonly samples: readonly (Sample | string)[] }
  /** What went wrong; `told`: whether its message is for a person. */
  | { readonly error: string; readonly told: boolean };

serve(threadScope());

function serve(scope: ThreadScope<Question, Answer>): void {
  let encode: Promise<(example: Example) => Sample> | null = null;
  scope.onmessage = async ({ data }) => {
    try {
      if ("files" in data) {
        encode = encoderOf(data.files);
        await encode;
        return scope.postMessage({ samples: [] }, []);
      }
      const own = await encode!, samples = data.examples.map((example) => sampleOf(own, example));
      const buffers = samples.flatMap((s) => typeof s === "string" ? [] : [s.ids.buffer, s.learned.buffer]);
      scope.postMessage({ samples }, buffers);
    } catch (error) {
      const told = error instanceof FirnError;
      scope.postMessage({ error: told ? error.message : String((error as Error).stack), told }, []);
    }
  };
}

function sampleOf(encode: (example: Example) => Sample, example: Example): Sample | string {
  try {
    return encode(example);
  } catch (error) {
    if (error instanceof FirnError) return ruleOf(error);
    throw error;
  }
}
