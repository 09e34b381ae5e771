#!/usr/bin/env node
// A consumer with npm's aws-kcl. It writes what happens to the file LEDGER.
'use strict';

const fs = require('fs');
const kcl = require('aws-kcl');

const ledger = fs.openSync(process.env.LEDGER, 'a');
let shard;

function note(event, more) {
  const line = Object.assign({ event, shard, pid: process.pid }, more);
  fs.writeSync(ledger, JSON.stringify(line) + '\n');
}

function checkpoint(checkpointer, number, done) {
  const told = (error) => {
    note('checkpoint', { error: error || null, sequenceNumber: number });
    done();
  };
  if (number) checkpointer.checkpoint(number, told);
  else checkpointer.checkpoint(told);
}

kcl({
  initialize(input, done) {
    shard = input.shardId;
    note('initialize', { number: input.sequenceNumber });
    done();
  },
  processRecords(input, done) {
    for (const record of input.records) {
      const data = Buffer.from(record.data, 'base64').toString();
      note('record', { data, number: record.sequenceNumber, sub: record.subSequenceNumber });
    }
    checkpoint(input.checkpointer, input.records[input.records.length - 1].sequenceNumber, done);
  },
  leaseLost(input, done) {
    note('leaseLost');
    done();
  },
  shardEnded(input, done) {
    note('shardEnded');
    checkpoint(input.checkpointer, null, done);
  },
  shutdownRequested(input, done) {
    note('shutdownRequested');
    checkpoint(input.checkpointer, null, done);
  },
}).run();
