import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Sends one request: java Request.java PATH BODY. The client asks for an upgrade to HTTP/2, as is its default. */
class Request {
    public static void main(String[] arguments) throws Exception {
        String base = System.getenv().getOrDefault("TANDEM", "http://127.0.0.1:8001/v1");
        HttpRequest request = HttpRequest.newBuilder(URI.create(base + arguments[0]))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(arguments[1]))
                .build();
        HttpClient.newHttpClient()
                .send(request, HttpResponse.BodyHandlers.ofLines())
                .body()
                .forEach(System.out::println);
    }
}
