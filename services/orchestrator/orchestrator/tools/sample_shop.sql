-- A small outdoor shop, which query_database reads if DATABASE_URL is not set.

CREATE TABLE products (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    category TEXT NOT NULL,
    price_eur REAL NOT NULL,
    stock INTEGER NOT NULL
);

CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    city TEXT NOT NULL,
    country TEXT NOT NULL,
    joined_on TEXT NOT NULL
);

CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    product_id INTEGER NOT NULL REFERENCES products (id),
    quantity INTEGER NOT NULL,
    total_eur REAL NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('paid', 'shipped', 'delivered', 'returned', 'cancelled')),
    ordered_on TEXT NOT NULL
);

INSERT INTO products VALUES
    (1, 'Trail running shoe', 'shoes', 119.00, 42),
    (2, 'Road running shoe', 'shoes', 139.50, 17),
    (3, 'Hiking boot', 'shoes', 189.00, 8),
    (4, 'Rain jacket', 'clothing', 95.00, 25),
    (5, 'Wool base layer', 'clothing', 59.00, 60),
    (6, 'Running shorts', 'clothing', 35.00, 0),
    (7, 'Day pack 20 l', 'bags', 79.00, 31),
    (8, 'Travel pack 45 l', 'bags', 149.00, 12),
    (9, 'Two-person tent', 'camping', 329.00, 5),
    (10, 'Down sleeping bag', 'camping', 249.00, 9),
    (11, 'Gas stove', 'camping', 45.50, 22),
    (12, 'Head torch', 'camping', 40.00, 54);

INSERT INTO customers VALUES
    (1, 'Ana Souza', 'São Paulo', 'Brazil', '2023-02-11'),
    (2, 'Ben Okafor', 'Lagos', 'Nigeria', '2023-05-30'),
    (3, 'Chloé Martin', 'Lyon', 'France', '2023-06-18'),
    (4, 'Dmitri Volkov', 'Riga', 'Latvia', '2023-11-02'),
    (5, 'Emi Tanaka', 'Osaka', 'Japan', '2024-01-09'),
    (6, 'Farah Haddad', 'Amman', 'Jordan', '2024-03-21'),
    (7, 'George Miller', 'Denver', 'United States', '2024-07-14'),
    (8, 'Hana Novak', 'Brno', 'Czechia', '2025-01-27');

INSERT INTO orders VALUES
    (1, 1, 1, 1, 119.00, 'delivered', '2025-01-06'),
    (2, 2, 4, 2, 190.00, 'delivered', '2025-01-14'),
    (3, 3, 9, 1, 329.00, 'delivered', '2025-01-20'),
    (4, 5, 2, 1, 139.50, 'returned', '2025-02-03'),
    (5, 7, 12, 3, 120.00, 'delivered', '2025-02-11'),
    (6, 4, 3, 1, 189.00, 'delivered', '2025-02-19'),
    (7, 1, 5, 2, 118.00, 'delivered', '2025-03-02'),
    (8, 6, 7, 1, 79.00, 'delivered', '2025-03-08'),
    (9, 8, 10, 1, 249.00, 'delivered', '2025-03-17'),
    (10, 3, 11, 1, 45.50, 'delivered', '2025-04-01'),
    (11, 5, 8, 1, 149.00, 'delivered', '2025-04-09'),
    (12, 2, 6, 2, 70.00, 'cancelled', '2025-04-22'),
    (13, 7, 1, 1, 119.00, 'delivered', '2025-05-05'),
    (14, 7, 5, 3, 177.00, 'delivered', '2025-05-05'),
    (15, 1, 9, 1, 329.00, 'shipped', '2025-05-19'),
    (16, 4, 12, 1, 40.00, 'shipped', '2025-05-23'),
    (17, 8, 4, 1, 95.00, 'shipped', '2025-05-26'),
    (18, 6, 3, 2, 378.00, 'paid', '2025-06-01'),
    (19, 3, 8, 1, 149.00, 'paid', '2025-06-02'),
    (20, 5, 10, 1, 249.00, 'paid', '2025-06-03');
