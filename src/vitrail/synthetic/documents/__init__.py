"""Drawn documents: receipts, invoices, forms, tables, charts, notices and screens, with questions and answers."""
