<?php
// A table that is the same on every screen: the change is an ordinary form, and one header tells everybody.

$file = getenv('STOCK_FILE') ?: sys_get_temp_dir() . '/outrigger-stock.json';

/** Reads the stock, lets `$change` change it, and writes it, one request at a time. */
function stock(string $file, ?callable $change = null): array
{
    $handle = fopen($file, 'c+');
    flock($handle, LOCK_EX);
    $stock = json_decode(stream_get_contents($handle), true) ?: ['Oar' => 12, 'Sail' => 4, 'Anchor' => 7, 'Rope' => 40];
    if ($change !== null) {
        $stock = $change($stock);
        ftruncate($handle, 0);
        rewind($handle);
        fwrite($handle, json_encode($stock));
    }
    fclose($handle);
    return $stock;
}

function reply(int $status, array $body): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    header('Cache-Control: no-store');
    echo json_encode($body);
}

switch ($_SERVER['REQUEST_METHOD'] . ' ' . $_SERVER['REQUEST_URI']) {
    case 'GET /':
        readfile(__DIR__ . '/page.html');
        break;
    case 'GET /stock':
        reply(200, stock($file));
        break;
    case 'POST /stock':
        $item = (string) ($_POST['item'] ?? '');
        $by = (int) ($_POST['by'] ?? 0);
        $stock = stock($file, function (array $stock) use ($item, $by): array {
            if (isset($stock[$item])) {
                $stock[$item] = max(0, $stock[$item] + $by);
            }
            return $stock;
        });
        if (!isset($stock[$item])) {
            reply(404, ['error' => 'no such item']);
            break;
        }
        // One header, no HTTP client: what this reply says goes to everybody who follows `stock`.
        header('Outrigger-Push: "stock";event="changed"');
        reply(200, ['item' => $item, 'left' => $stock[$item]]);
        break;
    default:
        reply(404, ['error' => 'nothing here']);
}
