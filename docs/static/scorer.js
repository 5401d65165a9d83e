// What a search ranks first: Sphinx's own numbers, and of pages that a word stands in, those for use before those of study.
var Scorer = {
  score: ([page, , , , score]) => score + ({
    recipes: 3, start: 2, "own-films": 2, "own-maps": 2, "own-loop": 2, data: 1, labels: 1, evaluation: 1, cluster: 1, faq: 1,
    results: -9, scale: -3, beside: -3, where: -3, design: -3, contributing: -3,
  }[page] ?? 0),
  objNameMatch: 11, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
