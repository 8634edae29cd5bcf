// The AWS X-Ray SDK for Go.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/aws/aws-xray-sdk-go/v2/header"
	"github.com/aws/aws-xray-sdk-go/v2/xray"
	"github.com/aws/aws-xray-sdk-go/v2/xraylog"
)

func say(message any) {
	if err := json.NewEncoder(os.Stdout).Encode(message); err != nil {
		panic(err)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// putHTTP fills a segment's http block, as the SDK's handler and client do.
func putHTTP(segment *xray.Segment, url string) {
	segment.Lock()
	defer segment.Unlock()
	request := segment.GetHTTP().GetRequest()
	request.Method, request.URL, request.UserAgent = "POST", url, "live-test"
	segment.GetHTTP().GetResponse().Status = 500
}

func sendOrderTrace() {
	ctx, root := xray.NewSegmentFromHeader(
		context.Background(), "shop", &http.Request{}, &header.Header{SamplingDecision: header.Sampled},
	)
	must(root.AddAnnotation("order", 7))
	must(root.AddAnnotation("note", "Grüße 🚚"))
	must(root.AddMetadataToNamespace("live", "cart", map[string][]string{"items": {"book", "pen"}}))
	putHTTP(root, "http://shop.example/orders/7")
	ids := map[string]string{"shop": root.ID}

	lookupCtx, lookup := xray.BeginSubsegment(ctx, "lookup")
	_, cache := xray.BeginSubsegment(lookupCtx, "lookup.cache")
	ids["lookup"], ids["lookup.cache"] = lookup.ID, cache.ID
	cache.Close(nil)
	lookup.Close(nil)

	_, payment := xray.BeginSubsegment(ctx, "payment")
	ids["payment"] = payment.ID
	payment.Lock()
	payment.Namespace = "remote"
	payment.Unlock()
	putHTTP(payment, "https://pay.example/charge")
	payment.Close(errors.New("card declined"))
	root.Lock()
	root.Fault = true
	root.Unlock()
	root.Close(nil)
	say(map[string]any{"trace_id": root.TraceID, "root": root.ID, "parent_id": nil, "ids": ids})
}

func decide(service, path string, count int) map[string]any {
	sampled, rules := 0, map[string]int{}
	for range count {
		request, err := http.NewRequest(http.MethodGet, "http://shop.example"+path, nil)
		must(err)
		_, segment := xray.BeginSegmentWithSampling(
			context.Background(), service, request, header.FromString(""),
		)
		segment.RLock()
		if segment.Sampled {
			sampled++
			if sdk, ok := segment.AWS["xray"].(xray.SDK); ok && sdk.RuleName != "" {
				rules[sdk.RuleName]++
			}
		}
		segment.RUnlock()
		segment.Close(nil)
	}
	return map[string]any{"requested": count, "sampled": sampled, "rules": rules}
}

func answerSampling(service string) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var path string
		var count int
		_, err := fmt.Sscan(lines.Text(), &path, &count)
		must(err)
		say(decide(service, path, count))
	}
}

func main() {
	xray.SetLogger(xraylog.NewDefaultLogger(os.Stderr, xraylog.LogLevelWarn))
	switch os.Args[1] {
	case "udp":
		sendOrderTrace()
	case "sampling":
		answerSampling(os.Args[2])
	default:
		panic("no scenario " + os.Args[1])
	}
}
