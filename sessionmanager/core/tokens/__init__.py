"""Who a caller is: tokens made and taken back, API keys, and the rules that both keep."""
