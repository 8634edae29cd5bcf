import com.amazonaws.xray.AWSXRay;
import com.amazonaws.xray.entities.Entity;
import com.amazonaws.xray.entities.Segment;
import com.amazonaws.xray.entities.Subsegment;
import com.amazonaws.xray.entities.TraceHeader;
import com.amazonaws.xray.entities.TraceHeader.SampleDecision;
import com.amazonaws.xray.entities.TraceID;
import com.amazonaws.xray.strategy.sampling.SamplingRequest;
import com.amazonaws.xray.strategy.sampling.SamplingResponse;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/** The AWS X-Ray SDK for Java. */
public final class XRaySdk {
    private static final ObjectMapper JSON = new ObjectMapper();

    private static final class CardDeclinedException extends RuntimeException {
        CardDeclinedException() {
            super("card declined");
        }
    }

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "udp" -> sendOrderTrace();
            case "sampling" -> answerSampling(arguments[1]);
            case "serve" -> serve(arguments[1], arguments.length > 2 ? arguments[2] : null);
            default -> throw new IllegalArgumentException("no scenario " + arguments[0]);
        }
        System.exit(0); // the samplers' pollers are not daemon threads
    }

    private static void say(Map<String, ?> message) throws IOException {
        System.out.println(JSON.writeValueAsString(message));
        System.out.flush();
    }

    private static void sendOrderTrace() throws IOException {
        Map<String, String> ids = new LinkedHashMap<>();
        Segment segment = AWSXRay.beginSegment("shop");
        segment.putAnnotation("order", 7);
        segment.putAnnotation("note", "Grüße 🚚");
        segment.putMetadata("live", "cart", Map.of("items", List.of("book", "pen")));
        putHttp(segment, "http://shop.example/orders/7");

        Subsegment lookup = AWSXRay.beginSubsegment("lookup");
        Subsegment cache = AWSXRay.beginSubsegment("lookup.cache");
        AWSXRay.endSubsegment();
        AWSXRay.endSubsegment();

        Subsegment payment = AWSXRay.beginSubsegment("payment");
        payment.setNamespace("remote");
        putHttp(payment, "https://pay.example/charge");
        payment.addException(new CardDeclinedException());
        AWSXRay.endSubsegment();
        segment.setFault(true);
        AWSXRay.endSegment();

        for (Entity entity : List.of(segment, lookup, cache, payment)) {
            ids.put(entity.getName(), entity.getId());
        }
        Map<String, Object> report = new LinkedHashMap<>();
        report.put("trace_id", segment.getTraceId().toString());
        report.put("root", segment.getId());
        report.put("parent_id", null);
        report.put("ids", ids);
        say(report);
    }

    private static void putHttp(Entity entity, String url) {
        entity.putHttp("request", Map.of("method", "POST", "url", url, "user_agent", "live-test"));
        entity.putHttp("response", Map.of("status", 500));
    }

    private static void answerSampling(String service) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            say(decide(service, words[0], Integer.parseInt(words[1])));
        }
    }

    private static Map<String, Object> decide(String service, String path, int count) {
        int sampled = 0;
        Map<String, Integer> rules = new TreeMap<>();
        for (int made = 0; made < count; made++) {
            SamplingRequest request = new SamplingRequest(service, "shop.example", path, "GET", "");
            SamplingResponse response = AWSXRay.getGlobalRecorder().getSamplingStrategy().shouldTrace(request);
            if (!response.isSampled()) {
                AWSXRay.getGlobalRecorder().beginNoOpSegment();
                AWSXRay.endSegment();
                continue;
            }
            sampled++;
            Segment segment = AWSXRay.beginSegment(service);
            response.getRuleName().ifPresent(rule -> {
                segment.setRuleName(rule);
                rules.merge(rule, 1, Integer::sum);
            });
            AWSXRay.endSegment();
        }
        return Map.of("requested", count, "sampled", sampled, "rules", rules);
    }

    private static void serve(String service, String nextUrl) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", exchange -> answer(exchange, service, nextUrl));
        server.start();
        say(Map.of("port", server.getAddress().getPort()));
        System.in.readAllBytes();
        server.stop(0);
    }

    private static void answer(HttpExchange exchange, String service, String nextUrl) throws IOException {
        String path = exchange.getRequestURI().getPath();
        String line = Optional.ofNullable(exchange.getRequestHeaders().getFirst(TraceHeader.HEADER_KEY)).orElse("");
        TraceHeader header = TraceHeader.fromString(line);
        boolean sampled = header.getSampled() == SampleDecision.SAMPLED;
        if (header.getSampled() == SampleDecision.UNKNOWN || header.getSampled() == SampleDecision.REQUESTED) {
            SamplingRequest request = new SamplingRequest(service, "shop.example", path, "GET", "");
            sampled = AWSXRay.getGlobalRecorder().getSamplingStrategy().shouldTrace(request).isSampled();
        }
        TraceID traceId = Optional.ofNullable(header.getRootTraceId()).orElseGet(TraceID::create);
        Segment segment = AWSXRay.beginSegment(service, traceId, header.getParentId());
        segment.setSampled(sampled);
        String url = "http://" + exchange.getRequestHeaders().getFirst("Host") + path;
        segment.putHttp("request", Map.of("method", exchange.getRequestMethod(), "url", url));

        Map<String, Object> answer = new LinkedHashMap<>();
        int status = path.endsWith("/fail") ? 500 : 200;
        answer.put("service", service);
        answer.put("trace_id", segment.getTraceId().toString());
        answer.put("segment_id", segment.getId());
        try (Subsegment work = AWSXRay.beginSubsegment("reserve stock")) {
            work.putAnnotation("path", path);
            if (status == 500) {
                work.addException(new IllegalStateException("out of stock"));
            }
        }
        answer.put("next", null);
        if (nextUrl != null) {
            HttpResponse<String> next = call(URI.create(nextUrl + path));
            answer.put("next", JSON.readValue(next.body(), JsonNode.class));
            status = next.statusCode();
        }
        segment.putHttp("response", Map.of("status", status));
        segment.setFault(status >= 500);
        AWSXRay.endSegment();

        byte[] body = JSON.writeValueAsBytes(answer);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    private static HttpResponse<String> call(URI next) throws IOException {
        try (Subsegment subsegment = AWSXRay.beginSubsegment(next.getHost())) {
            subsegment.setNamespace("remote");
            HttpRequest request = HttpRequest.newBuilder(next)
                .header(TraceHeader.HEADER_KEY, TraceHeader.fromEntity(subsegment).toString())
                .build();
            HttpResponse<String> response = HttpClient.newHttpClient()
                .send(request, HttpResponse.BodyHandlers.ofString());
            subsegment.putHttp("request", Map.of("method", "GET", "url", next.toString()));
            subsegment.putHttp("response", Map.of("status", response.statusCode()));
            return response;
        } catch (InterruptedException error) {
            throw new IOException(error);
        }
    }
}
