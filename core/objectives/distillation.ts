/**
 * Distillation: a model learns the distributions of another one.
 *
 * Axes: N rows, V vocabulary, K tokens that are kept.
 *
 * @module
 */

import { checkOptions, checkRange, refuse } from "../arguments.ts";
import { InputError } from "../errors.ts";
import { type Model, outputOf } from "../models/model.ts";
import { checkTask, features, scoresOf, type TokenBatch } from "../models/tasks.ts";
import { predictions } from "../models/loss.ts";
import { add, cast, divide, multiply, subtract } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { equal, maximum, where } from "../ops/comparison.ts";
import { crossEntropyOp, IGNORE, nextLabels } from "../ops/cross_entropy.ts";
import { exp, log } from "../ops/functions.ts";
import { gather } from "../ops/gather.ts";
import { logSoftmax } from "../ops/log_sum_exp.ts";
import { concat, reshape, slice } from "../ops/movement.ts";
import { stopGradient } from "../ops/stop_gradient.ts";
import { apply, pick, type Tensor } from "../tensor.ts";
import { defineObjective, type Objective } from "./objective.ts";

/** A batch of tokens, perhaps with what the teacher finds most likely. */
export interface DistillationBatch extends TokenBatch {
  /** i32 [B, T, K]: the likeliest next tokens of each position, as `withTeacher` finds them. */
  readonly teacherIds?: Tensor;
  /** f32 [B, T, K]: their log-probabilities, at the temperature of the objective. */
  readonly teacherLogProbabilities?: Tensor;
}

/** Options of {@link distillationLoss}. */
export interface DistillationOptions {
  /** The teacher, which is not trained; absent where batches have its likeliest tokens. */
  readonly teacher?: Model;
  /** What scores of both are divided by, at least above 0; 1 when absent. */
  readonly temperature?: number;
  /** Share of the negative log-likelihood of the labels; 0.5 when absent. The rest is that of the divergence. */
  readonly labels?: number;
  /**
   * How distributions are compared; `forward` when absent. `forward`: KL from teacher to student, which covers all that the teacher
   * does; `reverse`: from student to teacher; `jsd`: the Jensen-Shannon divergence between both.
   */
  readonly divergence?: "forward" | "reverse" | "jsd";
  /** Weight of the teacher in the mixture of `jsd`; 0.5 when absent. */
  readonly mixture?: number;
}

/** Bytes of scores that each of both models has in memory at a time, where the model says nothing. */
const BYTES = 2 ** 27;

/**
 * The loss of a student that learns from a teacher: `labels * (negative log-likelihood of the labels) + (1 - labels) * T^2 *
 * divergence`, where both distributions are at the temperature `T`. It is a mean over the labelled positions of a batch.
 *
 * The teacher is a second model with the same vocabulary, whose weights stay as they are; or batches have its `K` likeliest tokens,
 * and all others are one more class.
 *
 * Sources: Hinton et al., arXiv 1503.02531, section 2; Gu et al., "MiniLLM", arXiv 2306.08543 (reverse); Agarwal et al., "GKD",
 * arXiv 2306.13649, equation 1 (`jsd`).
 *
 * @param student The model that is trained
 * @param options The teacher and the settings
 * @returns The objective; `divergence` and `nll_loss` are its metrics
 * @throws {InputError} When a model does not predict tokens, the vocabularies differ, or a setting is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { newModel } from "@firn/train/hub";
 * import { distillationLoss } from "@firn/train/objectives";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const teacher = await newModel(gpu, { source, seed: 1 });
 * const ids = tensor(new Int32Array([1, 2, 3]), [1, 3]);
 * const loss = distillationLoss(teacher, { teacher, labels: 0, temperature: 2 });
 * // Nobody differs from himself.
 * assertAlmostEquals((await read(gpu, loss(teacher.params, { inputIds: ids, labels: ids })))[0], 0, 1e-6);
 * ```
 */
export function distillationLoss<P extends object>(
  student: Model<P>,
  options: DistillationOptions = {},
): Objective<P, DistillationBatch> {
  const settings = checked(student, options), { teacher } = options, { labels: share } = settings;
  return defineObjective(student, {
    settings: ["distillation", settings],
    names: ["divergence", "nll_loss"],
    count: predictions,
    compute(subject, { teacherIds, teacherLogProbabilities, ...batch }) {
      const top = teacherIds === undefined || teacherLogProbabilities === undefined
        ? null
        : { ids: teacherIds, logProbabilities: teacherLogProbabilities };
      if (top === null && teacher === undefined) {
        throw new InputError(
          'Cannot compute "distillationLoss" as it needs a teacher: give the option "teacher", or batches of withTeacher',
        );
      }
      const labels = nextLabels(batch.labels), [rows, time] = labels.shape, count = rows * time;
      const flat = (x: Tensor): Tensor => reshape(x, [count, x.shape.at(-1)!]);
      const own = flat(features(subject, batch));
      const other = top === null ? flat(stopGradient(features(teacher!, batch))) : null;
      const ids = top && flat(top.ids), logs = top && flat(top.logProbabilities);
      const ask = reshape(labels, [count]), [classes] = outputOf(subject).weight.shape;
      const { scoreBytes = BYTES } = subject, most = Math.max(1, Math.floor(scoreBytes / (4 * classes)));
      const parts = Array.from({ length: Math.ceil(count / most) }, (_, i) => {
        const at = { start: i * most, count: Math.min(most, count - i * most) };
        const scores = scoresOf(subject, rowsOf(own, at)), asked = rowsOf(ask, at);
        const taught = other === null
          ? topPair(scores, { ids: rowsOf(ids!, at), logs: rowsOf(logs!, at), ...settings })
          : fullPair(scores, { teacher: stopGradient(scoresOf(teacher!, rowsOf(other, at))), ...settings });
        const counted = where(equal(cast(asked), IGNORE), 0, 1);
        return {
          divergence: sum(multiply(counted, sum(divergenceOf(taught, settings), -1))),
          nll: share === 0 ? null : sum(multiply(counted, nllOf(scores, asked))),
          counted: sum(counted),
        };
      });
      const total = (of: (part: typeof parts[number]) => Tensor): Tensor =>
        parts.map(of).reduce((a, b) => add(a, b));
      const denominator = maximum(total((part) => part.counted), 1);
      const divergence = divide(total((part) => part.divergence), denominator);
      const scaled = multiply(divergence, (1 - share) * settings.temperature ** 2);
      if (share === 0) return { loss: scaled, metrics: { divergence, "nll_loss": multiply(divergence, 0) } };
      const nll = divide(total(({ nll }) => nll!), denominator);
      return { loss: add(multiply(nll, share), scaled), metrics: { divergence, "nll_loss": nll } };
    },
  });
}

type Settings = Required<Omit<DistillationOptions, "teacher">>;

function checked(student: Model, options: DistillationOptions): Settings {
  checkTask(student, ["nextToken"]);
  checkOptions("distillationLoss", options);
  const { temperature = 1, labels = 0.5, divergence = "forward", mixture = 0.5, teacher } = options;
  checkRange("distillationLoss", { temperature }, { least: Number.MIN_VALUE });
  checkRange("distillationLoss", { labels }, { least: 0, below: 1 });
  if (!(mixture > 0 && mixture < 1)) {
    refuse("distillationLoss", '"mixture" must be above 0 and below 1', mixture);
  }
  if (!["forward", "reverse", "jsd"].includes(divergence)) {
    refuse("distillationLoss", '"divergence" must be forward, reverse or jsd', divergence);
  }
  if (teacher !== undefined) {
    checkTask(teacher, ["nextToken"]);
    const [own, other] = [student, teacher].map((model) => outputOf(model).weight.shape[0]);
    if (own !== other) {
      throw new InputError(
        `Cannot distill "${teacher.architecture}" as both models must have one vocabulary: the teacher has ${other} tokens, the student ${own}`,
      );
    }
  }
  return { temperature, labels, divergence, mixture };
}

/** Some rows of a tensor. */
function rowsOf(x: Tensor, { start, count }: { readonly start: number; readonly count: number }): Tensor {
  const [rows, ...rest] = x.shape;
  if (rows === count) return x;
  return slice(x, { starts: [start, ...rest.map(() => 0)], sizes: [count, ...rest] });
}

/** Log-probabilities of both over the same classes, [N, classes]. */
interface Taught {
  readonly teacher: Tensor;
  readonly student: Tensor;
}

function fullPair(
  scores: Tensor,
  { teacher, temperature }: { readonly teacher: Tensor; readonly temperature: number },
): Taught {
  return {
    teacher: stopGradient(logSoftmax(divide(teacher, temperature))),
    student: logSoftmax(divide(scores, temperature)),
  };
}

/** Least probability of all tokens that are not kept: their logarithm stays finite. */
const LEAST = 2 ** -20;

/** The tokens that are kept, and one class for all others. */
function topPair(
  scores: Tensor,
  { ids, logs, temperature }: { readonly ids: Tensor; readonly logs: Tensor; readonly temperature: number },
): Taught {
  const own = gather(logSoftmax(divide(scores, temperature)), ids);
  const withRest = (kept: Tensor): Tensor => {
    const rest = log(maximum(subtract(1, sum(exp(kept), -1, { keepDims: true })), LEAST));
    return concat([kept, rest], -1);
  };
  return { teacher: stopGradient(withRest(logs)), student: withRest(own) };
}

/** What each class adds to the divergence. */
function divergenceOf({ teacher, student }: Taught, { divergence, mixture }: Settings): Tensor {
  const kl = (p: Tensor, q: Tensor): Tensor => multiply(exp(p), subtract(p, q));
  if (divergence === "forward") return kl(teacher, student);
  if (divergence === "reverse") return kl(student, teacher);
  const most = maximum(teacher, student);
  // The logarithm of the mixture, without overflow or a logarithm of 0.
  const mixed = add(
    most,
    log(add(
      multiply(exp(subtract(teacher, most)), mixture),
      multiply(exp(subtract(student, most)), 1 - mixture),
    )),
  );
  return add(multiply(kl(teacher, mixed), mixture), multiply(kl(student, mixed), 1 - mixture));
}

/** Negative log-likelihoods, [N]; any number where there is no label. */
function nllOf(scores: Tensor, labels: Tensor): Tensor {
  const [rows, classes] = scores.shape;
  const losses = apply(crossEntropyOp, [scores, labels], { classes });
  return reshape(pick(losses, 0), [rows]);
}
