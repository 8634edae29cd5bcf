// The AWS SDK for JavaScript v3: X-Ray's API.
'use strict';

const { randomBytes } = require('node:crypto');
const {
  XRayClient,
  PutTraceSegmentsCommand,
  BatchGetTracesCommand,
  GetSamplingTargetsCommand,
  paginateGetTraceSummaries,
  paginateGetSamplingRules,
} = require('@aws-sdk/client-xray');

const DEADLINE_MS = 30_000;

async function main() {
  const client = new XRayClient({});
  const now = Date.now();
  const epoch = Math.floor(now / 1000).toString(16).padStart(8, '0');
  const traceId = `1-${epoch}-${randomBytes(12).toString('hex')}`;
  const segment = {
    name: 'javascript-shop',
    id: randomBytes(8).toString('hex'),
    trace_id: traceId,
    start_time: now / 1000 - 0.25,
    end_time: now / 1000,
  };
  const put = await client.send(
    new PutTraceSegmentsCommand({ TraceSegmentDocuments: [JSON.stringify(segment)] }),
  );

  let summarised = [];
  while (!summarised.includes(traceId) && Date.now() < now + DEADLINE_MS) {
    summarised = [];
    const window = { StartTime: new Date(now - 60_000), EndTime: new Date(Date.now() + 60_000) };
    for await (const page of paginateGetTraceSummaries({ client }, window)) {
      summarised.push(...page.TraceSummaries.map((summary) => summary.Id));
    }
  }
  const traces = await client.send(new BatchGetTracesCommand({ TraceIds: [traceId] }));

  const rules = [];
  for await (const page of paginateGetSamplingRules({ client }, {})) {
    rules.push(...page.SamplingRuleRecords.map((record) => record.SamplingRule.RuleName));
  }
  const statistics = {
    RuleName: 'Default',
    ClientID: randomBytes(12).toString('hex'),
    Timestamp: new Date(),
    RequestCount: 10,
    SampledCount: 2,
    BorrowCount: 1,
  };
  const targets = await client.send(
    new GetSamplingTargetsCommand({ SamplingStatisticsDocuments: [statistics] }),
  );
  const report = {
    trace_id: traceId,
    segment_id: segment.id,
    unprocessed: put.UnprocessedTraceSegments,
    summarised: summarised.includes(traceId),
    segments: traces.Traces.flatMap((trace) => trace.Segments.map((part) => part.Id)),
    rules,
    targets: targets.SamplingTargetDocuments.map((target) => target.RuleName),
  };
  process.stdout.write(JSON.stringify(report) + '\n');
}

if (process.argv[2] !== 'api') throw new Error(`no scenario ${process.argv[2]}`);
main();
