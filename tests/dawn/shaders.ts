/** The folder of the texts of shaders that a run of the tests compiled. */
export const SHADERS = ".firn/shaders";
