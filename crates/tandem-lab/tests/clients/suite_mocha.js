// Adds what came of each test, a line of JSON each, to the file that SUITE_OUTCOMES names.
'use strict';

const fs = require('fs');

const file = fs.openSync(process.env.SUITE_OUTCOMES, 'a');

function tell(test, outcome, error) {
  const reason = error ? String(error.message || error).split('\n')[0].slice(0, 300) : '';
  fs.writeSync(file, JSON.stringify({ test: test.fullTitle(), outcome, reason }) + '\n');
}

module.exports = function (runner) {
  runner.on('pass', (test) => tell(test, 'passed'));
  runner.on('pending', (test) => tell(test, 'skipped'));
  // Of a hook, too: what it was to prepare is not run then.
  runner.on('fail', (test, error) => tell(test, 'failed', error));
  runner.on('end', () => process.exit(0));
};
