// A consumer with npm's aws-kcl.
'use strict';

const kcl = require('aws-kcl');

const checkpoint = (input, done) =>
  input.checkpointer.checkpoint((error) => {
    if (error) console.error('checkpoint failed:', error);
    done();
  });

kcl({
  initialize(input, done) {
    this.shard = input.shardId;
    done();
  },
  processRecords(input, done) {
    for (const record of input.records) {
      const text = Buffer.from(record.data, 'base64').toString();
      console.error(this.shard, record.partitionKey, text);
    }
    checkpoint(input, done);
  },
  leaseLost: (input, done) => done(),
  shardEnded: checkpoint,
  shutdownRequested: checkpoint,
}).run();
