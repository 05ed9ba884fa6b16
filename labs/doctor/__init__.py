"""What a lab needs of the machine: `machine` reads facts, `checks` judges and shows them."""
