"use strict";
// How differences between rows are written, and which are more than chance.

const Differences = (() => {
  const SIGNIFICANCE_LEVEL = 0.05;
  const signed = (value) => {
    const text = Math.abs(value).toFixed(3);
    return `${value < 0 && Number(text) > 0 ? "−" : "+"}${text}`;
  };
  return {
    signed,
    chance: (p) => (p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`),
    isReal: (p) => p !== null && p < SIGNIFICANCE_LEVEL,
    interval: (low, high) => (low === null ? "" : `(${signed(low)} to ${signed(high)})`),
  };
})();
