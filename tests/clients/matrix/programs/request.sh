# Sends one request: sh request.sh PATH BODY
curl --silent --show-error --no-buffer --http2 "${TANDEM:-http://127.0.0.1:8001/v1}$1" \
  --header 'Content-Type: application/json' --data "$2"
